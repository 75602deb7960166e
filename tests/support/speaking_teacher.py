"""A teacher that writes in the languages that its prompt asks for: articles of the Declaration of Human Rights. Now and then it writes French.

Belongs here: what it says. Not here: the server (`teacher_server.py`), the texts (`declaration/`).
"""

from __future__ import annotations

import json
import re
from functools import cache
from typing import Any

from benchmarks.languages import declaration
from speed_assets.domain.fingerprints import digest
from speed_assets.domain.language_names import LANGUAGE_NAMES
from tests.support.natural_teacher import natural
from tests.support.teacher_server import Answer

FRENCH = "Tous les êtres humains naissent libres et égaux en dignité et en droits, et ils sont doués de raison."
"""What it writes in the place of a query in the language asked for."""
_CODES = {name: code for code, name in LANGUAGE_NAMES.items()}
_PAIR = re.compile(
    r'"user_query": what somebody with this task in mind would type, in (\w+)\..*a document in (\w+) that serves',
    re.DOTALL,
)
_QUERY = re.compile(r"It is in ([\w ]+), whatever language.*<passage>\n(.*?)\n</passage>", re.DOTALL)


@cache
def articles(code: str) -> tuple[str, ...]:
    """The articles in a language, each in one text."""
    return tuple("\n".join(paragraphs) for _, paragraphs in declaration(code)[1:])


def speaking(french_in: int = 6) -> Answer:
    """Such a teacher.

    Args:
        french_in: of so many pairs one has a French query.
    """
    other = natural(cut=False)

    def answer(body: dict[str, Any]) -> str:
        prompt = body["messages"][-1]["content"]
        number = int(digest([prompt])[:8], 16)
        if pair := _PAIR.search(prompt):
            query, documents = (articles(_CODES[name]) for name in pair.groups())
            place = number % 20
            return json.dumps(
                {
                    "user_query": FRENCH if number % french_in == 0 else query[place],
                    "positive_document": documents[place + 1],
                    "hard_negative_document": documents[place + 7],
                },
                ensure_ascii=False,
            )
        if asked := _QUERY.search(prompt):
            return json.dumps({"user_query": _about(asked[2], asked[1], number)}, ensure_ascii=False)
        return other(body)

    return answer


def _about(passage: str, language: str, number: int) -> str:
    """Four words of the passage, or of an article in another language."""
    text = passage if language not in _CODES else articles(_CODES[language])[number % 20]
    words = text.splitlines()[-1].split()
    return " ".join(words[:4])[:40]
