"""What the tests of the examples share."""

from pathlib import Path

import pytest

from tests.examples.java import compile_examples


@pytest.fixture(scope="session")
def java_classes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The compiled Java examples."""
    folder = tmp_path_factory.mktemp("classes")
    compile_examples(folder)
    return folder
