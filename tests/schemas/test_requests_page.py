"""docs/requests.md and the models say the same."""

import re
from pathlib import Path

import orjson
import pytest

from schemas.bounds import MAX_REQUEST_BYTES
from schemas.outcomes import Outcome, decode_outcome
from schemas.reasons import NEVER_BINDING, Reason
from schemas.requests import PLANNED_TYPES, REQUEST_TYPES, Decoded, decode_request

PAGE = (Path(__file__).parents[2] / "docs" / "requests.md").read_text("utf-8")
EXAMPLES = re.findall(r"```json\n(.*?)\n```", PAGE, re.DOTALL)
SECTIONS = dict(re.findall(r"^#### (\w+)\n\n(.*?)(?=\n\n#|\Z)", PAGE, re.DOTALL | re.MULTILINE))


def test_every_reason_has_exactly_one_heading_and_no_heading_is_left_over() -> None:
    assert sorted(re.findall(r"^#### (.+)$", PAGE, re.MULTILINE)) == sorted(reason.value for reason in Reason)


@pytest.mark.parametrize("reason", Reason)
def test_a_section_says_how_the_refusal_binds(reason: Reason) -> None:
    text = SECTIONS[reason.value]
    if reason is Reason.INTERNAL_ERROR:
        expected = "*rejected · binding if the request had passed check 4.*"
    else:
        expected = "*rejected · not binding.*" if reason in NEVER_BINDING else "*declined · binding.*"
    assert text.startswith(expected)


def test_every_documented_example_decodes() -> None:
    types = []
    outcomes = 0
    for example in EXAMPLES:
        if "status" in (tree := orjson.loads(example)) and "seq" in tree:
            decode_outcome(example.encode())
            assert tree.keys() == Outcome.model_fields.keys()
            outcomes += 1
        else:
            decoded = decode_request(example.encode(), MAX_REQUEST_BYTES)
            assert isinstance(decoded, Decoded), decoded
            types.append(decoded.request.type)
    assert sorted(types) == sorted(REQUEST_TYPES)
    assert outcomes == 1


def test_every_field_of_every_message_is_on_the_page() -> None:
    fields = {name for model in (*REQUEST_TYPES.values(), Outcome) for name in model.model_fields}
    assert [name for name in sorted(fields) if f"`{name}`" not in PAGE] == []


def test_every_type_is_on_the_page() -> None:
    assert [name for name in REQUEST_TYPES if f"\n### {name}\n" not in PAGE] == []
    assert [name for name in sorted(PLANNED_TYPES) if f"`{name}`" not in PAGE] == []
