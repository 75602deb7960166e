"""Rows whose given text is a passage, or a sentence of one: classification, STS and long matching from documents.

The given text has the place of a query. The writer gives what stands opposite: labels, sentences or documents, one that fits and one that
only seems to. So the two texts that a model learns to tell apart are by one hand, and their style does not tell them apart.

Which rows there are follows from hashes of passages, as for queries (`grounded.py`), by an order of their own for each task type, so that few
passages serve several types while others serve none.

Belongs here: which part of a passage is given, and what is asked of it. Not here: cutting (`passages.py`), wording of prompts
(`prompt_sets/`), queries (`grounded.py`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import polars as pl

from speed_assets.domain.asking import Asking
from speed_assets.domain.attributes import draw_attributes
from speed_assets.domain.fingerprints import digest, seed_for, short_id
from speed_assets.domain.grounded import draw_name, drawn_passages
from speed_assets.domain.passages import sentences
from speed_assets.domain.row_languages import with_given_text_languages

_UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff]")
"""Letters of scripts that put no spaces between words."""
_LETTERS_IN_WORD = 2
"""Such letters that count as a word (ours)."""
_CLASSES = " Classes: "
"""Stands between a task and the names of its classes."""
_END = (".", "!", "?", "…", "。", "！", "？", "।", "॥", "؟", "۔", "።", '"', "”", "»", "」", ")")  # noqa: RUF001
"""How a sentence ends; a heading or a cell of a table does not."""


def with_classes(task: str, labels: Sequence[str]) -> str:
    """A classification task of passages as rows have it: it names its classes.

    >>> with_classes("Tell what it is.", ["a rule", "an example"])
    'Tell what it is. Classes: a rule, an example.'
    """
    return f"{task}{_CLASSES}{', '.join(labels)}."


def classes_of(task: str) -> list[str]:
    """The classes that such a task names; none of a task in other words, such as one of the user's own examples.

    >>> classes_of("Tell what it is. Classes: a rule, an example."), classes_of("Tell what it is.")
    (['a rule', 'an example'], [])
    """
    _, found, names = task.rpartition(_CLASSES)
    return names.removesuffix(".").split(", ") if found else []


@dataclass(frozen=True, slots=True)
class GivenTexts:
    """What is given and asked for. Fields as in the recipe's section `grounded_rows`."""

    words_min: int
    """Words of a sentence at least."""
    words_max: int
    """And at most."""
    classification_tasks: Sequence[str]
    """Tasks that name their classes."""
    matching_tasks: Sequence[str]
    """Relations of a passage to another text."""


@dataclass(frozen=True, slots=True)
class _Given:
    """The given text of a row, and its task."""

    text: str
    task: str


class NoSentence(ValueError):
    """No passage has a sentence of the lengths asked for."""


def given_rows(passages: pl.DataFrame, asking: Asking, texts: GivenTexts) -> pl.DataFrame:
    """Rows to be written from passages that are their given text, with the column `passage`; see `grounded.grounded_rows`.

    Args:
        passages: passage_id, document_id, title, text.
        asking: how many rows are asked for, and how; its task type is one of `GIVEN_TEXT_TYPES`.
        texts: what is given and asked for.

    Raises:
        NoSentence: STS is asked for, and no passage has a sentence that fits.
    """
    task_type, seed = asking.task_type, asking.seed
    by_id = {row["passage_id"]: row for row in passages.iter_rows(named=True)}
    choices = {one: list(_given(row, task_type, seed, texts)) for one, row in by_id.items()}
    ids = [one for one, found in choices.items() if found]
    if by_id and asking.rows and not ids:
        raise NoSentence(f"no sentence of {texts.words_min} to {texts.words_max} words in {len(by_id):,} passages")
    asked = []
    for passage_id, draw in drawn_passages(ids, asking.rows, seed, draw_name(asking.stage, task_type)):
        row_id = short_id(asking.stage, task_type, passage_id, draw)
        given = choices[passage_id][draw % len(choices[passage_id])]
        attributes = draw_attributes(task_type, seed_for(seed, "attributes", row_id))
        prompt = partial(asking.prompts.from_passage, task_type, given.task, given.text, attributes)
        topic = by_id[passage_id]["title"] or by_id[passage_id]["document_id"]
        asked.append(asking.row(row_id, passage_id, topic, given.task, attributes, prompt, given.text))
    rows = asking.table(asked, passages=True)
    return with_given_text_languages(rows, asking.languages) if asking.languages else rows


def _given(passage: dict[str, str], task_type: str, seed: int, texts: GivenTexts) -> Iterator[_Given]:
    """What rows of a passage may be about, in the order in which its draws take them: an order by a hash that the passage names."""
    name, topic = passage["passage_id"], passage["title"] or passage["document_id"]
    if task_type == "grounded_sts":
        fit = fitting_sentences(passage["text"], texts.words_min, texts.words_max)
        for text in sorted(fit, key=lambda one: digest([seed, "sentence", name, one])):
            yield _Given(text, topic)
        return
    tasks = texts.classification_tasks if task_type == "grounded_classification" else texts.matching_tasks
    for task in sorted(tasks, key=lambda one: digest([seed, "task of passage", name, one])):
        yield _Given(passage["text"], task)


def fitting_sentences(text: str, words_min: int, words_max: int) -> list[str]:
    """The sentences of a passage that are neither too short nor too long and end as sentences do, each once.

    Args:
        text: of a passage; each of its lines is a paragraph or a heading.
        words_min: of a sentence at least; two letters count as a word in scripts without spaces.
        words_max: and at most.

    >>> fitting_sentences("Boilers > Safety\\nIt heats. The old boiler heats three rooms. See below", 4, 20)
    ['The old boiler heats three rooms.']
    """
    found = [one for line in text.splitlines() for one in sentences(line.strip())]
    fit = [one for one in found if one.endswith(_END) and words_min <= _words(one) <= words_max]
    return list(dict.fromkeys(fit))


def _words(text: str) -> int:
    letters = len(_UNSPACED.findall(text))
    return max(len(text.split()), letters // _LETTERS_IN_WORD)
