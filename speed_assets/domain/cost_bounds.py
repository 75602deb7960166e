"""Tokens that the calls of a stage take: least, likely and most, before and after its prompts exist.

Of a stage whose prompts nobody knows yet the recipe says how many calls there are, what their template is, and how long what
is put into it may be; of known prompts the characters are counted. What the same stage, or one that asks alike, took before in
the home replaces the likely number. Belongs here: that arithmetic. Not here: prices, the ledger, what a plan is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from math import ceil

from speed_assets.domain.answer_lengths import AnswerLengths
from speed_assets.domain.prompts import PromptKind

CHARACTERS_A_TOKEN = (6.0, 4.0, 3.0)
"""Characters of English text a token, for the least, the likely and the most tokens (ours: byte-pair vocabularies of 2024 to 2026
take 4 to 5 characters of prose, and 3 of names and JSON)."""
_TOLD_TOKENS = 100
"""Tokens by which a prompt that is asked again may be longer (ours: what was wrong, in a sentence or two)."""
_TASK_WORDS = (2, 20, 60)
"""Words of a task that a prompt names or a brainstorm its topic (ours: most tasks have 10 to 30; the limit allows 60)."""
_LEAST_ANSWER = 4
"""Tokens of the shortest answer that can be read, such as a patch that changes nothing (ours)."""


@dataclass(frozen=True, slots=True)
class Bounds:
    """Tokens at least, as is likely, and at most."""

    least: int
    likely: int
    most: int

    def __add__(self, other: Bounds) -> Bounds:
        return Bounds(self.least + other.least, self.likely + other.likely, self.most + other.most)

    def times(self, number: float) -> Bounds:
        """Of so many calls that are each like this."""
        return Bounds(int(self.least * number), round(self.likely * number), ceil(self.most * number))


@dataclass(frozen=True, slots=True)
class Tokens:
    """What the calls of a stage take, as prompts and as answers."""

    prompt: Bounds
    output: Bounds


def of_characters(number: int) -> Bounds:
    """Tokens of a text of so many characters.

    >>> of_characters(1200)
    Bounds(least=200, likely=300, most=400)
    """
    least, likely, most = CHARACTERS_A_TOKEN
    return Bounds(int(number / least), round(number / likely), ceil(number / most))


def answer(
    lengths: AnswerLengths,
    kind: PromptKind,
    task_type: str,
    values: Mapping[str, tuple[str, ...]],
    limit: int | None = None,
    count: int = 1,
) -> Bounds:
    """Tokens of one answer to a prompt of a kind.

    Args:
        lengths: from words to tokens.
        kind: what the prompt asks for.
        task_type: its task type.
        values: of the attributes that may be drawn, by name.
        limit: tokens that an answer may have; None takes what the words need.
        count: tasks that a brainstorm asks for.
    """
    words = lengths.most_words(kind, task_type, values, count)
    most = limit or lengths.limit(words)
    # A writer who obeys needs no margin, and draws of the attributes ask for half of the longest on average (ours).
    likely = round(words / 2 * lengths.tokens_per_word) + lengths.structure_tokens // 2
    return Bounds(min(_LEAST_ANSWER, most), min(likely, most), most)


def prompt(lengths: AnswerLengths, kind: PromptKind, template: int, record: Bounds, shown: int, asked: int) -> Bounds:
    """Tokens of one prompt of a kind.

    Args:
        lengths: from words to tokens.
        kind: what the prompt asks for.
        template: characters of its template.
        record: tokens of one row that is shown in it.
        shown: rows that are shown in it.
        asked: characters of the template of the prompt that those rows are answers to, which is shown as well; 0 for none.
    """
    least, likely, most = (round(words * lengths.tokens_per_word) for words in _TASK_WORDS)
    task = Bounds(least, likely, most)
    around = of_characters(template + asked) + task
    return around + (record.times(shown) if kind in ("judge", "revise") else Bounds(0, 0, 0))


def with_attempts(calls: Tokens, number: int, attempts: int, growth: float) -> Tokens:
    """What calls take at most when each is asked for again as often as the recipe allows.

    Args:
        calls: what first attempts take.
        number: of calls.
        attempts: of each at most.
        growth: factor on the limit each time that an answer was cut off.
    """
    asked = calls.prompt.most * attempts + _TOLD_TOKENS * number * (attempts - 1)
    written = ceil(calls.output.most * sum(growth**cuts for cuts in range(attempts)))
    return Tokens(
        Bounds(calls.prompt.least, calls.prompt.likely, asked), Bounds(calls.output.least, calls.output.likely, written)
    )


def as_before(calls: Tokens, number: int, mean: tuple[float, float]) -> Tokens:
    """The same, with what calls took before as the likely number. A mean outside the bounds widens them: it was paid.

    Args:
        calls: what they take by the recipe.
        number: of calls.
        mean: prompt and output tokens of one earlier call.
    """
    likely = [round(number * value) for value in mean]
    return Tokens(_around(calls.prompt, likely[0]), _around(calls.output, likely[1]))


def _around(bounds: Bounds, likely: int) -> Bounds:
    return Bounds(min(bounds.least, likely), likely, max(bounds.most, likely))
