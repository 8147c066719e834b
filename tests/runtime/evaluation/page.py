"""What every page that `evaluate` writes has to be."""

from __future__ import annotations

import re
from html.parser import HTMLParser


class Page(HTMLParser):
    """Collects what a page loads, its ids and what refers to them, and whether its tags are closed."""

    VOID = frozenset({"meta", "br", "link", "img", "wbr"})

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.referred: set[str] = set()
        self.unnamed: list[str] = []

    def handle_starttag(self, tag, attrs) -> None:
        self.tags.append(tag)
        if tag not in self.VOID:
            self.open.append(tag)
        named = dict(attrs)
        if "id" in named:
            self.ids.append(named["id"])
        if (tag == "svg" and not (named.get("role") == "img" and "aria-labelledby" in named)) or (
            tag == "th" and "scope" not in named
        ):
            self.unnamed.append(tag)
        for name, value in attrs:
            self.referred.update(re.findall(r"url\(#([^)]+)\)", value or ""))
            if name in ("href", "xlink:href") and value.startswith("#"):
                self.referred.add(value[1:])
            if name == "aria-labelledby":
                self.referred.add(value)
            if name in ("src", "href", "xlink:href", "data") and not value.startswith("#"):
                self.loads.append(f"{tag} {value[:60]}")

    def handle_startendtag(self, tag, attrs) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag) -> None:
        assert self.open.pop() == tag


def check_page(text: str) -> None:
    page = Page()
    page.feed(text)
    assert page.open == []
    # Points of thousands of genes are a picture inside the drawing.
    assert all(load.startswith("image data:image/png") for load in page.loads)
    assert "script" not in page.tags
    assert "link" not in page.tags
    assert page.tags.count("svg") == 2
    assert "@import" not in text
    # The drawings are parts of one document: an id of one would clip and draw in all of them.
    assert len(page.ids) == len(set(page.ids)) > 0
    assert page.referred
    assert page.referred <= set(page.ids)
    assert page.unnamed == []
