"""A prompt set: a template for each kind of prompt and each task type, and rendering with it.

`{name}` in a template is replaced in a single pass, so braces or dollars in a user's or model's text stay as they are.

Belongs here: reading the package's own sets, rendering, digests. Not here: what a set must hold (`layout.py`),
any wording (`prompt_sets/`).
"""

from __future__ import annotations

import random
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import resources
from typing import Any

import yaml

from speed_assets.domain.attributes import ATTRIBUTES, GUIDELINE_ORDER
from speed_assets.domain.fingerprints import digest, seed_for
from speed_assets.domain.prompts.answer_schemas import quoted_keys
from speed_assets.domain.prompts.layout import (
    LAYOUT,
    NOTHING_DRAWN,
    PROMPT_KINDS,
    PromptKind,
    filled,
    placeholders,
    with_changes,
)
from speed_assets.domain.prompts.set_checks import check_set
from speed_assets.domain.task_types import GROUNDED

_LINE_BREAKS = re.compile(r"[\r\n]+")


_CLOSING = re.compile(r"</([a-z]+)>")


EXAMPLES_SHOWN = 7
"""Example tasks in a brainstorm (authors' repository: 7), drawn for each topic, in a random order."""


@dataclass(frozen=True)
class PromptSet:
    """The prompts of one set. Every method that renders raises ValueError for what it cannot ask."""

    name: str
    version: str
    templates: Mapping[PromptKind, Mapping[str, str]]
    """Template by kind and task type, shared parts already in place."""
    guidelines: Mapping[str, tuple[str, ...]]
    """Guidelines by task type."""
    attribute_phrases: Mapping[str, str]
    """The phrase for the `{value}` of an attribute in `{attributes}`, by attribute name."""
    candidate: str
    """How `{candidates}` shows one candidate: `{number}` (from 1) and `{text}`."""
    one_line: bool
    """Line breaks in inserted texts become spaces."""
    again: str = "{prompt}"
    """How a `{prompt}` is asked again when its answer had a `{problem}`."""
    examples: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Example tasks by task type, of which `{examples}` of a brainstorm shows some."""
    expansion: str = ""
    """Asks for `{count}` subtopics of a `{topic}`, `{known}` ones left out; empty where the set cannot ask for them."""
    multilingual: bool = False
    """Synthesis prompts say the languages of a row's texts."""
    source: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """The plain values that the set was made from."""

    @classmethod
    def load(cls, name: str, multilingual: bool = False) -> PromptSet:
        """The set of that name from the package's own files; raises ValueError when there is none.

        Args:
            name: of the set.
            multilingual: its wording for recipes that draw languages.
        """
        return _load(name, multilingual)

    @classmethod
    def from_data(cls, name: str, data: Mapping[str, Any], multilingual: bool = False) -> PromptSet:
        """A set from the plain values of a complete YAML file.

        Args:
            name: of the set.
            data: the values.
            multilingual: whether synthesis prompts say the languages of a row's texts.

        Raises:
            KeyError: a part is missing (`layout.with_changes` keeps every part of the set that it changes).
            ValueError: a template cannot be rendered.
        """
        parts = data.get("parts", {})
        prompts = cls(
            name=name,
            version=str(data["version"]),
            templates={
                kind: {task_type: filled(text, parts) for task_type, text in data[kind].items()}
                for kind in PROMPT_KINDS
            },
            guidelines={task_type: tuple(lines) for task_type, lines in data.get("guidelines", {}).items()},
            attribute_phrases=dict(data.get("attributes", {})),
            candidate=data["candidate"],
            one_line=bool(data.get("one_line", False)),
            again=data.get("again", "{prompt}"),
            examples={task_type: tuple(tasks) for task_type, tasks in data.get("examples", {}).items()},
            expansion=filled(data.get("expand", ""), parts),
            multilingual=multilingual,
            source=data,
        )
        check_set(prompts)
        return prompts

    def reworded(self, changes: Any) -> PromptSet:
        """The set with other wording.

        Args:
            changes: In the layout of a set's file, only the texts that differ.

        Raises:
            ValueError: A key or type is not of that layout, or a template cannot be rendered.
        """
        return PromptSet.from_data(self.name, with_changes(LAYOUT, self.source, changes), self.multilingual)

    def template(self, kind: PromptKind, task_type: str) -> str:
        """The template of a kind for a task type, shared parts in place. Raises ValueError for an unknown kind or task type, and for the
        brainstorm of STS."""
        try:
            return self.templates[kind][task_type]
        except KeyError:
            raise ValueError(f"prompt set {self.name} has no {kind} prompt for {task_type}") from None

    def digest(self, kind: PromptKind, task_type: str) -> str:
        """sha256 over all that shapes this kind of prompt for this task type, and over nothing else.

        It covers the prompt for a second try and, for a synthesis prompt, the weights by which its attributes are drawn.

        Args:
            kind: Of the prompt.
            task_type: Of the row.
        """
        shape: list[Any] = [self.version, kind, task_type, self.template(kind, task_type), self.one_line]
        if kind == "synthesis":
            phrases = self.attributes_in_prompt(task_type)
            table = [attribute for attribute in ATTRIBUTES[task_type] if attribute.name in phrases]
            shape += [
                [asdict(attribute) for attribute in table],
                [self.attribute_phrases.get(attribute.name) for attribute in table],
                self.guidelines.get(task_type, ()),
                self.again,
            ]
        elif kind == "judge":
            shape.append(self.candidate)
        elif kind == "brainstorm" and self.examples.get(task_type):
            shape += [self.examples[task_type], self.again]
        elif kind == "brainstorm" and self.again != "{prompt}":  # which asks in the same words
            shape.append(self.again)
        return digest(shape)

    def expansion_digest(self) -> str:
        """sha256 over all that shapes the prompt for subtopics."""
        return digest([self.version, "expand", self.expansion, self.one_line])

    def attributes_in_prompt(self, task_type: str) -> frozenset[str]:
        """The names of the attributes that a synthesis prompt of this task type states if they are drawn."""
        template = self.template("synthesis", task_type)
        named = placeholders(template)
        if "guidelines" in named:
            named |= {name for line in self.guidelines.get(task_type, ()) for name in placeholders(line)}
        if "attributes" in named:
            named |= set(self.attribute_phrases)
        return frozenset(attribute.name for attribute in ATTRIBUTES[task_type] if attribute.name in named)

    def brainstorm(self, task_type: str, topic: str, count: int) -> str:
        """The prompt for tasks on a topic. STS has none: there the topic is the task.

        The topic alone decides which examples are in it, and in which order.

        Args:
            task_type: Of the tasks.
            topic: The topic path.
            count: Tasks to ask for.

        Raises:
            ValueError: `count` is below 1, or the task type has no such prompt.
        """
        if count < 1:
            raise ValueError(f"count={count}: ask for at least one task")
        pool = self.examples.get(task_type, ())
        rng = random.Random(seed_for(0, "examples", task_type, topic))
        shown = rng.sample(pool, min(EXAMPLES_SHOWN, len(pool)))
        return self._render(
            "brainstorm",
            task_type,
            topic=self._line(topic),
            count=str(count),
            examples="\n".join(f"- {example}" for example in shown),
        )

    def expand(self, topic: str, count: int, known: Sequence[str] = ()) -> str:
        """The prompt for subtopics of a topic.

        Args:
            topic: The topic path.
            count: Subtopics to ask for.
            known: Names that the teacher must not repeat.

        Raises:
            ValueError: The set has no such prompt, or `count` is below 1.
        """
        if not self.expansion:
            raise ValueError(f"prompt set {self.name} has no prompt for subtopics (expand)")
        if count < 1:
            raise ValueError(f"count={count}: ask for at least one subtopic")
        there = "; ".join(map(self._line, known)) or "none yet"
        return filled(self.expansion, {"topic": self._line(topic), "count": str(count), "known": there})

    def synthesis(
        self, task_type: str, task: str, attributes: Mapping[str, str], languages: Mapping[str, str] | None = None
    ) -> str:
        """The prompt for one record.

        Args:
            task_type: Of the record.
            task: Of the record.
            attributes: As `draw_attributes` drew them.
            languages: Names of the row's languages (`row_languages.Drawn.names`), where the set says them.

        Raises:
            ValueError: An attribute is unknown, or one that the template names is missing.
        """
        template = self.template("synthesis", task_type)
        table = [attribute.name for attribute in ATTRIBUTES[task_type]]
        if unknown := sorted(set(attributes) - {*table, GUIDELINE_ORDER}):
            raise ValueError(f"{task_type} has no attributes {unknown}, known are {table}")
        if missing := sorted(placeholders(template).intersection(table) - set(attributes)):
            raise ValueError(f"the {self.name} synthesis prompt of {task_type} needs the attributes {missing}")
        return self._render(
            "synthesis",
            task_type,
            task=self._line(task),
            attributes=self._phrases(task_type, attributes),
            guidelines=self._guidelines(task_type, attributes),
            **self._said(languages),
            **{name: attributes[name] for name in table if name in attributes},
        )

    def grounded(
        self, task: str, passage: str, query_kind: str, persona: str, languages: Mapping[str, str] | None = None
    ) -> str:
        """The prompt for a query that a passage answers.

        Args:
            task: The instruction that such rows are trained under.
            passage: Verbatim.
            query_kind: What the query is to be, in words.
            persona: Who writes it.
            languages: As in `synthesis`.
        """
        return self.from_passage(GROUNDED, task, passage, {"query_kind": query_kind, "persona": persona}, languages)

    def from_passage(
        self,
        task_type: str,
        task: str,
        passage: str,
        values: Mapping[str, str],
        languages: Mapping[str, str] | None = None,
    ) -> str:
        """The prompt for a row that is written from a passage.

        Args:
            task_type: Of the row.
            task: The instruction that such rows are trained under.
            passage: The passage, or the part of it that is the given text, verbatim.
            values: Drawn attributes, and what else the template names.
            languages: As in `synthesis`.
        """
        return self._render(
            "synthesis",
            task_type,
            task=self._line(task),
            attributes=self._phrases(task_type, values),
            **{name: self._line(value) for name, value in values.items()},
            **self._said(languages),
            passage=self._material(passage, self.template("synthesis", task_type)),
        )

    def ask_again(self, prompt: str, problem: str) -> str:
        """The prompt again, with what was wrong with its last answer."""
        return filled(self.again, {"prompt": prompt, "problem": self._line(problem)})

    def judge(self, task_type: str, task: str, candidates: Sequence[str], prompt: str | None = None) -> str:
        """The prompt for the best and the worst of several candidates, which are numbered from 1 in the given order.

        Args:
            task_type: Of the row.
            task: Of the row.
            candidates: At least two answers.
            prompt: What the candidates are answers to; None: the task.

        Raises:
            ValueError: There are fewer than two candidates.
        """
        if len(candidates) < 2:
            raise ValueError(f"{len(candidates)} candidate(s): a judge compares at least two")
        template = self.template("judge", task_type) + self.candidate
        shown = (
            filled(self.candidate, {"number": str(number), "text": self._material(text, template)})
            for number, text in enumerate(candidates, 1)
        )
        return self._render(
            "judge",
            task_type,
            task=self._line(task),
            prompt=self._material(prompt or task, template),
            candidates="".join(shown),
        )

    def revise(self, task_type: str, task: str, draft: str, prompt: str | None = None) -> str:
        """The prompt for what is wrong with a draft, and for a patch of the faulty fields (null for none).

        Args:
            task_type: Of the row.
            task: Of the row.
            draft: The text to revise.
            prompt: What the draft is an answer to; None: the task.
        """
        template = self.template("revise", task_type)
        return self._render(
            "revise",
            task_type,
            task=self._line(task),
            prompt=self._material(prompt or task, template),
            draft=self._material(draft, template),
        )

    def _render(self, kind: PromptKind, task_type: str, **values: str) -> str:
        template = self.template(kind, task_type)
        keys = quoted_keys(task_type)
        return filled(template, {"task_type": task_type, "keys": keys, **values})

    def _phrases(self, task_type: str, attributes: Mapping[str, str]) -> str:
        """The drawn attributes as `{attributes}` shows them, in the order of the table."""
        phrases = [
            filled(self.attribute_phrases[attribute.name], {"value": attributes[attribute.name]})
            for attribute in ATTRIBUTES[task_type]
            if attribute.name in attributes and attribute.name in self.attribute_phrases
        ]
        return ", ".join(phrases) or NOTHING_DRAWN

    def _said(self, languages: Mapping[str, str] | None) -> Mapping[str, str]:
        """The names of languages that a template is filled with. Raises ValueError for a set that says them and gets none."""
        if self.multilingual and languages is None:
            raise ValueError(f"prompt set {self.name} says languages: draw them for the row")
        return languages or {}

    def _material(self, text: str, template: str) -> str:
        """A text inside a template: it cannot close a tag of the template."""
        tags = "|".join(dict.fromkeys(_CLOSING.findall(template)))
        text = self._line(text).strip() if tags else self._line(text)
        return re.sub(rf"</(?=(?:{tags})\b)", "</ ", text) if tags else text

    def _line(self, text: str) -> str:
        return _LINE_BREAKS.sub(" ", text) if self.one_line else text

    def _guidelines(self, task_type: str, attributes: Mapping[str, str]) -> str:
        """The guidelines as a list, in the drawn order; one whose attribute was not drawn is left out."""
        lines = self.guidelines.get(task_type, ())
        order = range(len(lines))
        if lines and GUIDELINE_ORDER in attributes:
            drawn = [int(i) for i in attributes[GUIDELINE_ORDER].split(",")]
            if sorted(drawn) != list(order):
                raise ValueError(
                    f"{GUIDELINE_ORDER}={attributes[GUIDELINE_ORDER]!r} does not order {len(lines)} guidelines"
                )
            lines = tuple(lines[i] for i in drawn)
        return "\n".join(f"- {filled(line, attributes)}" for line in lines if placeholders(line) <= set(attributes))


@cache
def _load(name: str, multilingual: bool) -> PromptSet:
    files = {file.name: file for file in resources.files("speed_assets.domain").joinpath("prompt_sets").iterdir()}
    sets = [file.removesuffix(".yaml") for file in files if file.endswith(".yaml") and "_" not in file]
    if name not in sets:
        known = ", ".join(sorted(sets))
        raise ValueError(f"no prompt set {name!r}; there are {known}")
    data, grounded, languages = (
        yaml.safe_load(files[f"{part}{name}.yaml"].read_text(encoding="utf-8"))
        for part in ("", "grounded_", "languages_")
    )
    data = {**data, **{kind: data[kind] | grounded[kind] for kind in grounded}}
    return PromptSet.from_data(name, with_changes(LAYOUT, data, languages) if multilingual else data, multilingual)
