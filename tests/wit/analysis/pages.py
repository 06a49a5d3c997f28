"""Pages as a browser and a reader find them."""

from html.parser import HTMLParser
from pathlib import Path

LOADING = {"src", "srcset", "href", "data", "poster", "action", "background", "formaction"}


class Page(HTMLParser):
    """What a browser would load, run and show."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.links: list[str] = []
        self.scripts: list[tuple[dict[str, str | None], str]] = []
        self.styles, self.text, self.inside = "", "", ""
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag, attrs):
        self.inside = tag
        if tag == "script":
            self.scripts.append((dict(attrs), ""))
        for name, value in attrs:
            if name in LOADING and value and tag != "a":
                self.loaded.append(value)
            elif name == "href" and value:
                self.links.append(value)

    def handle_endtag(self, tag):
        self.inside = ""

    def handle_data(self, data):
        if self.inside == "script":
            attributes, text = self.scripts[-1]
            self.scripts[-1] = (attributes, text + data)
        elif self.inside == "style":
            self.styles += data
        else:
            self.text += data.replace("\N{NO-BREAK SPACE}", " ")


class SpacedPage(Page):
    """Has a space between cells of a table."""

    def handle_endtag(self, tag: str) -> None:
        super().handle_endtag(tag)
        self.text += " " if tag in ("td", "th", "span", "summary") else ""
