"""Sections of rows other than retrieval that are written from passages of a corpus.

Belongs here: what is given of a passage, and what is asked of it. Not here: the corpus and its shares (`corpus_section.py`).
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from speed_assets.domain.given_texts import GivenTexts, with_classes
from speed_assets.recipe.section import Section

TaskText = Annotated[str, Field(min_length=8, max_length=1000)]
"""An instruction that stands above every row of its task."""
Label = Annotated[str, Field(min_length=1, max_length=60)]
"""The name of a class."""


class PassageClasses(Section):
    """A classification task that fits any passage of the corpus."""

    task: TaskText
    """What is asked of a passage, in a sentence; the classes are added to it."""
    labels: Annotated[tuple[Label, ...], Field(min_length=2)]
    """Names of its classes, two or more."""

    @model_validator(mode="after")
    def _different(self) -> PassageClasses:
        if any(mark in label for label in self.labels for mark in (",", "Classes:")):
            raise ValueError(f"labels of {self.task!r}: a class whose name has a comma reads as two: reword it")
        if len({label.casefold() for label in self.labels}) < len(self.labels):
            raise ValueError(f"labels of {self.task!r} name a class twice: give each class one name")
        return self

    def instruction(self) -> str:
        """The task with its classes, as rows have it."""
        return with_classes(self.task, self.labels)


class GroundedSts(Section):
    """Rows whose S1 is a sentence of a passage, verbatim. All numbers are ours."""

    words_min: Annotated[int, Field(ge=3, le=60)] = 6
    """Minimum words of the sentence; in scripts without spaces two letters count as a word."""
    words_max: Annotated[int, Field(ge=3, le=60)] = 40
    """Maximum words of the sentence."""

    @model_validator(mode="after")
    def _in_order(self) -> GroundedSts:
        if self.words_min > self.words_max:
            raise ValueError(f"words_min={self.words_min} is more than words_max={self.words_max}")
        return self


class GroundedClassification(Section):
    """Rows whose text is a passage, verbatim; the writer names its class and one that misleads. All tasks are ours."""

    tasks: Annotated[tuple[PassageClasses, ...], Field(min_length=1)] = (
        PassageClasses(
            task="Tell what a passage mainly does for its reader.",
            labels=("explains", "instructs", "reports", "argues", "warns"),
        ),
        PassageClasses(
            task="Tell for whom a passage is written.",
            labels=("beginners", "practitioners", "experts"),
        ),
        PassageClasses(
            task="Tell what the main statement of a passage is about.",
            labels=("a thing", "a person or group", "a place", "an event", "a procedure", "an idea"),
        ),
        PassageClasses(
            task="Tell what a reader could check the main statement of a passage against.",
            labels=("a measurement", "a document", "common experience", "no fact but taste"),
        ),
    )
    """Tasks, of which a passage gets another one each time that it is drawn."""


class GroundedMatching(Section):
    """Rows whose given text is a passage, verbatim; the writer gives a document that matches it and one that only seems to. All tasks are
    ours."""

    tasks: Annotated[tuple[TaskText, ...], Field(min_length=1)] = (
        "Given a passage, retrieve a text in which somebody else explains the same matter to beginners.",
        "Given a passage, retrieve an account of somebody to whom what it says happened, or who put it to use.",
        "Given a passage, retrieve a text that reports the same facts for another purpose.",
        "Given a passage, retrieve a text that draws a conclusion from what it says.",
        "Given a passage, retrieve a letter that asks for just the information that it gives, and says why.",
    )
    """Relations of a passage to another text, of which a passage gets another one each time that it is drawn."""


class GroundedRows(Section):
    """What rows other than retrieval are like that are written from passages (`corpus.shares`). The paper has none: all numbers and texts
    are ours."""

    sts: GroundedSts = GroundedSts()
    classification: GroundedClassification = GroundedClassification()
    matching_long: GroundedMatching = GroundedMatching()

    def texts(self) -> GivenTexts:
        """The same as the domain's value."""
        return GivenTexts(
            self.sts.words_min,
            self.sts.words_max,
            tuple(task.instruction() for task in self.classification.tasks),
            self.matching_long.tasks,
        )
