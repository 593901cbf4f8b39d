"""Pages: whole, escaped, and needing nothing from elsewhere."""

from ledgerline.pages import POLICY, document, facts, folded, paragraph, table
from tests.ledgerline.page_reader import Page

HOSTILE = '</td><script>alert("&")</script>'


def test_a_page_loads_nothing_and_forbids_it() -> None:
    page = Page(document("a title", [paragraph("words")]))
    assert page.loads == []
    assert f'http-equiv="Content-Security-Policy" content="{POLICY}"' in page.html
    assert "default-src 'none'" in POLICY


def test_a_page_says_its_language_title_and_that_it_is_light_or_dark() -> None:
    html = document("a <title>", [])
    assert '<html lang="en">' in html
    assert "<title>a &lt;title&gt;</title>" in html
    assert "prefers-color-scheme: dark" in html


def test_every_text_is_escaped() -> None:
    page = Page(
        document(
            HOSTILE,
            [
                table(HOSTILE, [HOSTILE, "b"], [[HOSTILE, HOSTILE]]),
                paragraph(HOSTILE),
                facts([(HOSTILE, HOSTILE, HOSTILE)]),
                folded(HOSTILE, paragraph("inner")),
            ],
        )
    )
    assert "script" not in page.tags
    assert page.tables[HOSTILE] == [[HOSTILE, "b"], [HOSTILE, HOSTILE]]


def test_a_table_has_a_caption_headings_for_columns_and_rows_and_numbers_to_the_right() -> None:
    drawn = table("counts", ["name", "count"], [["a", "1"], ["b", "2"]], right={"count"})
    assert Page(drawn).tables["counts"] == [["name", "count"], ["a", "1"], ["b", "2"]]
    assert drawn.count('scope="col"') == 2
    assert drawn.count('scope="row"') == 2
    assert drawn.count('class="n"') == 3


def test_a_table_without_rows_is_a_table() -> None:
    assert Page(table("none", ["name"], [])).tables["none"] == [["name"]]
