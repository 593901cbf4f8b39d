"""docs/integrating.md says the same as the reasons, the models, the examples and the other pages."""

import json
import re
from importlib.metadata import version

from ledgerline.stack.jars import KAFKA_VERSION
from schemas.bounds import MAX_REQUEST_BYTES
from schemas.outcomes import Outcome, decode_outcome
from schemas.reasons import NEVER_BINDING, Reason
from schemas.requests import Decoded, decode_request
from tests.docs.console import ROOT

PAGE = (ROOT / "docs" / "integrating.md").read_text("utf-8")
REQUESTS = (ROOT / "docs" / "requests.md").read_text("utf-8")
EXAMPLES = re.findall(r"```json\n(.*?)\n```", PAGE, re.DOTALL)


def test_the_table_holds_every_reason_once_under_the_heading_that_says_how_it_binds() -> None:
    table = PAGE.partition("## Every reason")[2]
    parts = re.split(r"^\| \*\*(.+?)\*\* \|", table, flags=re.MULTILINE)[1:]
    listed = {
        heading: set(re.findall(r"\[`(\w+)`\]", "".join(row.partition(" | ")[0] for row in rows.splitlines())))
        for heading, rows in zip(parts[::2], parts[1::2], strict=True)
    }
    declines = {*Reason} - NEVER_BINDING - {Reason.INTERNAL_ERROR}
    assert listed == {
        "rejected, not binding": {*NEVER_BINDING},
        "rejected, binding or not": {Reason.INTERNAL_ERROR},
        "declined, binding": declines,
    }


def test_the_request_and_the_outcome_on_the_page_are_ones() -> None:
    request, outcome = EXAMPLES
    assert isinstance(decode_request(request.encode(), MAX_REQUEST_BYTES), Decoded)
    assert decode_outcome(outcome.encode()).request_id == json.loads(request)["request_id"]
    assert json.loads(outcome).keys() == Outcome.model_fields.keys()


def test_every_link_leads_somewhere() -> None:
    headings = {"requests.md": anchors(REQUESTS), "": anchors(PAGE)}
    for target in re.findall(r"\]\(([^)]+)\)", PAGE):
        path, _, anchor = target.partition("#")
        assert (ROOT / "docs" / path).exists(), target
        assert not anchor or anchor in headings[path], target


def test_the_versions_on_the_page_are_those_of_the_examples() -> None:
    package = json.loads((ROOT / "examples" / "node" / "package.json").read_text("utf-8"))
    assert f"@platformatic/kafka {package['dependencies']['@platformatic/kafka']}" in PAGE
    assert f"kafka-clients {KAFKA_VERSION}" in PAGE
    assert f"aiokafka {version('aiokafka').rpartition('.')[0]}" in PAGE
    vectors = json.loads((ROOT / "examples" / "partition_vectors.json").read_text("utf-8"))
    assert f"{len(vectors['vectors'])} account ids, {len(vectors['partitions'])} numbers of partitions: 0" in PAGE


def anchors(page: str) -> set[str]:
    """As a forge makes them: lower case, letters, digits, dashes and underscores, spaces as dashes."""
    headings = re.findall(r"^#+ (.+)$", page, re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}
