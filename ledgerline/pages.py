"""HTML pages that need nothing but themselves: no script, font, image, address; light or dark as the reader has it."""

from collections.abc import Collection, Iterable, Sequence
from html import escape
from typing import Final

POLICY: Final = "default-src 'none'; style-src 'unsafe-inline'"
"""The browser itself refuses to load anything for a page that says this."""

STYLE: Final = """
:root { color-scheme: light dark; --ink: #1f2328; --soft: #59636e; --paper: #ffffff; --shade: #f3f5f7; --edge: #d1d9e0;
  --hue-0: #0b62c4; --hue-1: #b35900; --hue-2: #157f3b; --hue-3: #8250df; --alarm: #c4122f; --fine: #157f3b }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9aa5b1; --paper: #0d1117; --shade: #161c24;
  --edge: #3b444f; --hue-0: #58a6ff; --hue-1: #f0a04b; --hue-2: #4ac26b; --hue-3: #bc8cff; --alarm: #ff7b85;
  --fine: #4ac26b } }
body { font: 16px/1.55 system-ui, sans-serif; color: var(--ink); background: var(--paper); max-width: 60rem;
  margin: 2rem auto; padding: 0 1rem }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .5rem } h2 { font-size: 1.25rem; margin: 2.5rem 0 .3rem }
p { margin: .5rem 0; max-width: 46rem } .note { color: var(--soft) } .alarm { color: var(--alarm) }
.fine { color: var(--fine) }
.remark { border-left: 4px solid var(--hue-1); background: var(--shade); padding: .5rem .9rem }
dl.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(16rem, 1fr)); gap: .75rem; margin: 1.2rem 0 }
dl.facts div { background: var(--shade); border-radius: 6px; padding: .6rem .9rem }
dt { color: var(--soft); font-size: .85rem } dd { margin: 0; font-size: .85rem }
dd b { font-size: 1.35rem; display: block; line-height: 1.3 }
figure { margin: .8rem 0 } figcaption { color: var(--soft); font-size: .88rem; max-width: 46rem }
.scroll { overflow-x: auto }
table { border-collapse: collapse; margin: .5rem 0 1rem; font-size: .88rem; font-variant-numeric: tabular-nums }
caption { text-align: left; color: var(--soft); padding-bottom: .3rem }
td, th { border-bottom: 1px solid var(--edge); padding: .22rem .9rem .22rem 0; text-align: left; vertical-align: top }
th { font-weight: 600 } tbody th { font-weight: 400 } .n { text-align: right; white-space: nowrap }
summary { cursor: pointer; color: var(--soft); font-size: .88rem; margin: .3rem 0 }
pre { background: var(--shade); padding: 1rem; overflow: auto }
"""


def document(title: str, parts: Iterable[str], style: str = "") -> str:
    """Return a whole page of *parts*, which are HTML; *style* is added to the style that all pages share."""
    return "\n".join(
        [
            '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">',
            f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(title)}</title>\n<style>{STYLE}{style}</style>\n</head>\n<body>\n<main>",
            *parts,
            "</main>\n</body>\n</html>\n",
        ]
    )


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[str]], right: Collection[str] = ()) -> str:
    """Return a table of texts, which are escaped here; *right* names the columns of numbers."""
    classes = [' class="n"' if name in right else "" for name in head]
    first = "".join(f'<th scope="col"{kind}>{escape(name)}</th>' for name, kind in zip(head, classes, strict=True))
    body = "\n".join(_row(row, classes) for row in rows)
    return (
        f'<div class="scroll"><table><caption>{escape(caption)}</caption>\n<thead><tr>{first}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _row(cells: Sequence[str], classes: Sequence[str]) -> str:
    heading, *others = zip(cells, classes, strict=True)
    return (
        f'<tr><th scope="row"{heading[1]}>{escape(heading[0])}</th>'
        + "".join(f"<td{kind}>{escape(cell)}</td>" for cell, kind in others)
        + "</tr>"
    )


def folded(summary: str, inner: str) -> str:
    """Return *inner*, which is HTML, hidden until the reader opens it."""
    return f"<details><summary>{escape(summary)}</summary>\n{inner}\n</details>"


def facts(named: Iterable[tuple[str, str, str]]) -> str:
    """Return (name, figure, remark) as a row of tiles."""
    tiles = (
        f"<div><dt>{escape(name)}</dt><dd><b>{escape(figure)}</b>{escape(remark)}</dd></div>"
        for name, figure, remark in named
    )
    return f'<dl class="facts">{"".join(tiles)}</dl>'


def paragraph(text: str, kind: str = "") -> str:
    """Return *text* as a paragraph; *kind* is a class of the shared style."""
    return f'<p class="{kind}">{escape(text)}</p>' if kind else f"<p>{escape(text)}</p>"
