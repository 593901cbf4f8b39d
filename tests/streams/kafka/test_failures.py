"""What becomes of errors of aiokafka and of sockets."""

from __future__ import annotations

import gc
import weakref

import pytest

from streams.kafka import KafkaFailure
from streams.kafka.common import failures


def test_a_failure_that_was_handled_keeps_nothing_alive() -> None:
    """What could not be sent may be megabytes, again and again while a broker is away."""
    gc.disable()
    try:
        with pytest.raises(KafkaFailure, match=r"^append: TimeoutError") as caught, failures("append"):
            raise TimeoutError
        gone = weakref.ref(caught.value)
        del caught
        assert gone() is None
    finally:
        gc.enable()


def test_what_is_no_failure_passes() -> None:
    with pytest.raises(ValueError, match=r"^a defect$"), failures("append"):
        raise ValueError("a defect")
