"""What a text, Markdown, HTML or PDF file says: its title, its date and its blocks.

Belongs here: one file's bytes or text into headings and paragraphs. Not here: finding files (`corpus_files.py`).
"""

from __future__ import annotations

import io
import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from speed_assets.domain.passages import Block

PAGES_MAX = 5_000
"""Pages of a PDF that are read (ours): a bound on the time of one file."""
_FRONT_MATTER = re.compile(r"\A---[ \t]*\r?\n(.*?)\r?\n---[ \t]*(?:\r?\n|\Z)", re.DOTALL)
_FRONT_FIELD = re.compile(r"^(title|date)[ \t]*:[ \t]*(.*?)[ \t]*$", re.MULTILINE)
_HYPHENATED = re.compile(r"(?<=[a-zà-ÿ])-\n(?=[a-zà-ÿ])")
_NO_CONTENT = (
    "script",
    "style",
    "template",
    "noscript",
    "nav",
    "header",
    "footer",
    "aside",
    "form",
    "svg",
    "iframe",
    "button",
)
_HTML_BLOCKS = (
    "h1",
    "h2",
    "h3",
    "h4",
    "h5",
    "h6",
    "p",
    "li",
    "pre",
    "blockquote",
    "td",
    "th",
    "dt",
    "dd",
    "figcaption",
    "caption",
)
_HTML_CONTAINERS = (
    "div",
    "section",
    "article",
    "main",
    "body",
    "ul",
    "ol",
    "dl",
    "table",
    "tr",
    "details",
    "summary",
    "address",
)
"""Elements that end a paragraph, and whose own text is paragraphs."""


class Unreadable(ValueError):
    """A file that is not what its name says; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Read:
    """What a file says."""

    title: str
    date: str | None
    blocks: list[Block] = field(default_factory=list)


def read_text(text: str) -> Read:
    """A plain text: paragraphs stand between empty lines."""
    return Read("", None, [Block(part.strip()) for part in re.split(r"\n[ \t]*\n", _lines(text)) if part.strip()])


def read_markdown(text: str) -> Read:
    """Markdown: headings by level, every other block a paragraph. A front matter gives title and date, else the first heading
    of level 1 is the title."""
    from markdown_it import MarkdownIt

    found_text: dict[str, str] = {}
    text = _lines(text)
    if front := _FRONT_MATTER.match(text):
        found_text = {name: value.strip("\"'") for name, value in _FRONT_FIELD.findall(front[1])}
        text = text[front.end() :]
    blocks: list[Block] = []
    level = 0
    for token in MarkdownIt("commonmark").enable("table").parse(text):
        if token.type == "heading_open":
            level = int(token.tag[1])
        elif token.type == "heading_close":
            level = 0
        elif token.type == "inline":
            blocks.append(Block(_inline(token.children or []), level))
        elif token.type in ("fence", "code_block"):
            blocks.append(Block(token.content.strip()))
        elif token.type == "html_block":
            blocks += read_html(token.content).blocks
    return _titled(found_text.get("title", ""), found_text.get("date") or None, blocks)


def _inline(tokens: list[Any]) -> str:
    """The words of a line of Markdown, without marks and addresses."""
    parts = {"softbreak": "\n", "hardbreak": "\n"}
    found_text = (parts.get(token.type, token.content) for token in tokens if token.type != "html_inline")
    return "".join(found_text).strip()


def read_html(text: str) -> Read:
    """HTML: headings and paragraphs of the page's content; navigation, headers, footers and scripts are left out.

    Raises:
        Unreadable: Its elements are nested too deep.
    """
    from bs4 import BeautifulSoup

    try:
        page = BeautifulSoup(text, "html.parser")
        title = page.title.get_text(" ") if page.title else ""
        dated = page.find("time", attrs={"datetime": True})
        date = str(dated["datetime"]) if dated else None
        for tag in page(["title", *_NO_CONTENT]):
            tag.decompose()
        for line_break in page("br"):
            line_break.append("\n")  # replacing each takes the square of the time
        content = page.find("main") or page.find("article") or page.body or page
        blocks = _html_blocks(content)
    except RecursionError:
        raise Unreadable("its elements are nested too deep to be read") from None
    return _titled(title, date, blocks)


def _html_blocks(content: Any) -> list[Block]:
    """The text of a page in its order, a block for each stretch within one element that stands by itself.

    An element that nobody closes, as HTML allows, keeps its own text, and text between paragraphs is a paragraph.
    """
    from bs4 import CData, NavigableString, Tag

    owners: dict[int, Any] = {
        id(content): content
    }  # of each element; looking upwards from each takes the square of the time
    stretches: list[tuple[Any, list[str]]] = []
    for node in content.descendants:
        owner = owners[id(node.parent)]
        if isinstance(node, Tag):
            owners[id(node)] = node if node.name in _HTML_BLOCKS or node.name in _HTML_CONTAINERS else owner
        elif type(node) not in (NavigableString, CData):  # comments and the like
            continue
        elif stretches and stretches[-1][0] is owner:
            stretches[-1][1].append(node)
        elif node.strip():
            stretches.append((owner, [node]))
    blocks: list[Block] = []
    for owner, parts in stretches:
        found = "".join(parts).strip()
        if owner.name in _HTML_BLOCKS:
            blocks.append(Block(found, int(owner.name[1]) if re.fullmatch("h[1-6]", owner.name) else 0))
        else:
            blocks += read_text(found).blocks
    return blocks


def read_pdf(raw: bytes) -> Read:
    """A PDF's text, page by page; its pages have no headings. Raises Unreadable for one that is encrypted, damaged or scanned."""
    from pypdf import PdfReader

    logging.getLogger("pypdf").setLevel(logging.CRITICAL)
    try:
        reader = PdfReader(io.BytesIO(raw))
        if reader.is_encrypted:
            raise Unreadable("the PDF is encrypted: save it without a password")
        pages = len(reader.pages)
        if pages > PAGES_MAX:
            raise Unreadable(f"the PDF has {pages:,} pages, {PAGES_MAX:,} are read at most: split it")
        texts = [page.extract_text() or "" for page in reader.pages]
        about = reader.metadata
        title = str(about.title or "") if about else ""
        created = about.creation_date if about else None
    except Unreadable:
        raise
    except Exception as error:  # a damaged file raises whatever its damage leads to
        raise Unreadable(f"no PDF that can be read: {type(error).__name__}") from None
    blocks = [block for text in texts for block in read_text(_HYPHENATED.sub("", _lines(text))).blocks]
    if not blocks:
        raise Unreadable("the PDF has no text: it may hold scanned pages, which have to be recognised first")
    return Read(title, created.date().isoformat() if created else None, blocks)


def _titled(title: str, date: str | None, blocks: list[Block]) -> Read:
    """With the first heading of level 1 as the title where there is no other; a heading that says the title is left out."""
    if not title.strip():
        title = next((block.text for block in blocks if block.heading == 1), "")
    same = " ".join(title.split()).casefold()
    kept = [block for block in blocks if block.text.strip()]
    return Read(title, date, [b for b in kept if not (b.heading == 1 and " ".join(b.text.split()).casefold() == same)])


def _lines(text: str) -> str:
    return text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n\n")


READERS: dict[str, Callable[[Any], Read]] = {
    ".txt": read_text,
    ".text": read_text,
    ".md": read_markdown,
    ".markdown": read_markdown,
    ".html": read_html,
    ".htm": read_html,
    ".pdf": read_pdf,
}
"""By ending in small letters. A PDF is read from bytes, any other file from its text."""
