"""Text of models, servers and files made safe for where it is displayed: one escape for terminals, one for Markdown.

Belongs here: these two. Not here: masking keys (`resources/redaction.py`), HTML pages (`checks/data_docs.py`).
"""

from __future__ import annotations

import html
import re

_LINKS = re.compile(r"[\[\]`|\\*_~]")
_ADDRESS = re.compile(r":(?=//)|(?<=www)\.|(?<=mailto):|(?<=\w)@(?=\w)", re.I)
_LINE_START = re.compile(r"(?m)^([ \t]*)([#=+-])")


def for_terminal(text: object, *, lines: bool = False) -> str:
    """Text in which what is not printable, such as a terminal's escape sequences, is written as an escape.

    Args:
        text: any value.
        lines: keep line ends, and tabs.

    >>> for_terminal("red \x1b[31m")
    'red \\\\x1b[31m'
    """
    kept = "\n\t" if lines else ""
    value = str(text)
    if value.isprintable():
        return value
    return "".join(c if c.isprintable() or c in kept else c.encode("unicode_escape").decode("ascii") for c in value)


def for_markdown(text: object) -> str:
    """Text that Markdown displays as it is: no link, image, HTML, table cell, heading or code comes out of it.

    >>> for_markdown("![x](http://host/p.png) <b>")
    '!&#91;x&#93;(http&#58;//host/p.png) &lt;b&gt;'
    """
    escaped = html.escape(for_terminal(text, lines=True))
    escaped = _LINKS.sub(_entity, escaped)
    escaped = _ADDRESS.sub(_entity, escaped)
    return _LINE_START.sub(lambda found: f"{found[1]}&#{ord(found[2])};", escaped)


def for_markdown_code(text: object) -> str:
    """Text within a code span of Markdown."""
    return html.escape(for_terminal(text)).replace("`", "'").replace("|", "\\|")


def _entity(found: re.Match[str]) -> str:
    return f"&#{ord(found[0])};"
