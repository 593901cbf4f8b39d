"""Reads a page as a browser would: its text, its tables, its plots, and whatever it would load."""

import re
from html.parser import HTMLParser
from typing import Final
from xml.etree import ElementTree as ET

LOADING_TAGS: Final = frozenset(
    {"script", "link", "iframe", "img", "image", "use", "object", "embed", "video", "audio", "source", "base", "form"}
)
LOADING_ATTRIBUTES: Final = frozenset({"src", "srcset", "href", "xlink:href", "data", "action", "poster", "background"})
WITHOUT_END: Final = frozenset({"meta", "br", "hr", "!doctype"})


class Page(HTMLParser):
    """What is in *html*; fails on tags that are not closed in their order."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.html = html
        self.text = ""
        self.tags: list[str] = []
        self.tables: dict[str, list[list[str]]] = {}
        self.loads: list[str] = re.findall(r"(?:https?:|url\(|@import)[^\s]{0,40}", html)
        self._open: list[str] = []
        self._cells: list[list[str]] = []
        self._caption = ""
        self.feed(html)
        self.close()
        assert self._open == []

    @property
    def plots(self) -> list[ET.Element]:
        """The plots, as XML; legends are none."""
        return [ET.fromstring(svg) for svg in re.findall(r'<svg class="plot".*?</svg>', self.html, re.DOTALL)]

    def column(self, caption: str, name: str) -> list[str]:
        """The cells below *name* in the table called *caption*."""
        head, *rows = self.tables[caption]
        return [row[head.index(name)] for row in rows]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag in LOADING_TAGS:
            self.loads.append(tag)
        self.loads += [f"{tag} {name}" for name, _ in attrs if name in LOADING_ATTRIBUTES or name.startswith("on")]
        if tag not in WITHOUT_END:
            self._open.append(tag)
        if tag == "table":
            self._cells, self._caption = [], ""
        elif tag == "tr":
            self._cells.append([])
        elif tag in {"td", "th"}:
            self._cells[-1].append("")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if tag == "table":
            assert self._caption not in self.tables, f"two tables are called {self._caption}"
            self.tables[self._caption] = self._cells

    def handle_data(self, data: str) -> None:
        within = self._open[-1] if self._open else ""
        if within == "caption":
            self._caption += data
        elif within in {"td", "th"}:
            self._cells[-1][-1] += data
        if within != "style":
            self.text += data
