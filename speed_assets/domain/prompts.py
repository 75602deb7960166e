"""Prompts: the words for a model, from templates that are data (`prompt_sets/*.yaml`).

A prompt set holds a template for each kind of prompt and each task type. `{name}` in a template is
replaced in a single pass, so braces or dollars in a user's or model's text stay as they are.

Belongs here: rendering, digests, answer schemas, reading a compact prompt back. Not here: what is
drawn (`attributes.py`), what a model answers (`parsing.py`), any wording (`prompt_sets/`).
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import cache
from importlib import resources
from typing import Any, Literal, get_args

import yaml

from speed_assets.domain.attributes import ATTRIBUTES, GUIDELINE_ORDER, GUIDELINES
from speed_assets.domain.fingerprints import digest, seed_for
from speed_assets.domain.task_types import GROUNDED, TASK_TYPES

PromptKind = Literal["brainstorm", "synthesis", "judge", "revise"]
PROMPT_KINDS: tuple[PromptKind, ...] = get_args(PromptKind)

_PLACEHOLDER = re.compile(r"\{([a-z][a-z0-9_]*)\}")
_LINE_BREAKS = re.compile(r"[\r\n]+")
_NOTHING_DRAWN = "-"
_PLACEHOLDERS: dict[PromptKind, frozenset[str]] = {
    "brainstorm": frozenset(("task_type", "topic", "count", "examples")),
    "synthesis": frozenset(("task_type", "task", "keys", "attributes", "guidelines")),
    "judge": frozenset(("task_type", "task", "keys", "prompt", "candidates")),
    "revise": frozenset(("task_type", "task", "keys", "prompt", "draft")),
}
_GROUNDED_PLACEHOLDERS = frozenset(("task_type", "task", "keys", "query_kind", "persona", "passage"))
_EXPAND_PLACEHOLDERS = frozenset(("topic", "count", "known"))
EXAMPLES_SHOWN = 7
"""Example tasks in a brainstorm (authors' repository: 7), drawn anew and in another order for each topic."""
_CLOSING = re.compile(r"</([a-z]+)>")


_BY_TASK_TYPE = dict.fromkeys(TASK_TYPES, str)
_LAYOUT: Mapping[str, Any] = {
    **dict.fromkeys(("version", "candidate", "again", "expand"), str),
    "one_line": bool,
    "parts": str,
    "attributes": {attribute.name: str for table in ATTRIBUTES.values() for attribute in table},
    "guidelines": dict.fromkeys(TASK_TYPES, list),
    "examples": dict.fromkeys(TASK_TYPES, list),
    **dict.fromkeys(PROMPT_KINDS, _BY_TASK_TYPE),
}
"""What a set's file may hold: a type for each text, or those of a mapping's keys (`parts` has names of its own)."""


def _merged(layout: Mapping[str, Any], old: Mapping[str, Any], new: Any, at: str = "") -> dict[str, Any]:
    """`old` with what `new` has instead. Raises ValueError for a key or a kind of value that the layout does not have."""
    if not isinstance(new, Mapping):
        raise ValueError(f"{at or 'the file'} has to be a mapping, this is {type(new).__name__}")
    merged = dict(old)
    for key, value in new.items():
        path = f"{at}.{key}" if at else str(key)
        if key not in layout:
            raise ValueError(f"{path}: unknown; known are {', '.join(layout)}")
        kind = layout[key]
        if key == "parts":
            kind = dict.fromkeys(value, str) if isinstance(value, Mapping) else {}
        if isinstance(kind, Mapping):
            merged[key] = _merged(kind, old.get(key, {}), value, path)
        elif not isinstance(value, kind):
            raise ValueError(
                f"{path} has to be {'a list' if kind is list else 'text' if kind is str else 'true or false'}"
            )
        else:
            merged[key] = value
    return merged


def _fill(template: str, values: Mapping[str, str]) -> str:
    """`template` with each `{name}` replaced by its value, in one pass; names without a value stay."""
    return _PLACEHOLDER.sub(lambda match: values.get(match[1], match[0]), template)


def _names(template: str) -> set[str]:
    return set(_PLACEHOLDER.findall(template))


@dataclass(frozen=True)
class PromptSet:
    """The prompts of one set. Every method that renders raises ValueError for what it cannot ask."""

    name: str
    version: str
    templates: Mapping[PromptKind, Mapping[str, str]]
    """Template by kind and task type, shared parts already in place."""
    guidelines: Mapping[str, tuple[str, ...]]
    """Guidelines by task type."""
    sayings: Mapping[str, str]
    """How `{attributes}` says the `{value}` of an attribute, by attribute name."""
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
    source: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)
    """The plain values that the set was made from."""

    @classmethod
    def load(cls, name: str) -> PromptSet:
        """The set of that name from the package's own files; raises ValueError when there is none."""
        return _load(name)

    @classmethod
    def from_data(cls, name: str, data: Mapping[str, Any]) -> PromptSet:
        """A set from the plain values of a YAML file; raises ValueError for a template that cannot be rendered."""
        parts = data.get("parts", {})
        prompts = cls(
            name=name,
            version=str(data["version"]),
            templates={
                kind: {task_type: _fill(text, parts) for task_type, text in data[kind].items()} for kind in PROMPT_KINDS
            },
            guidelines={task_type: tuple(lines) for task_type, lines in data.get("guidelines", {}).items()},
            sayings=dict(data.get("attributes", {})),
            candidate=data["candidate"],
            one_line=bool(data.get("one_line", False)),
            again=data.get("again", "{prompt}"),
            examples={task_type: tuple(tasks) for task_type, tasks in data.get("examples", {}).items()},
            expansion=_fill(data.get("expand", ""), parts),
            source=data,
        )
        prompts._check()
        return prompts

    def reworded(self, changes: Any) -> PromptSet:
        """The set with other wording: `changes` has the layout of a set's file and only what differs.

        Raises ValueError for what is not of that layout, and for a template that cannot be rendered.
        """
        return PromptSet.from_data(self.name, _merged(_LAYOUT, self.source, changes))

    def _check(self) -> None:
        if "prompt" not in _names(self.again) or not _names(self.again) <= {"prompt", "problem"}:
            raise ValueError(
                f"prompt set {self.name}: again must name {{prompt}}, may name {{problem}}, and nothing else"
            )
        for name, lists in (("examples", self.examples), ("guidelines", self.guidelines)):
            for task_type, lines in lists.items():
                if odd := [line for line in lines if not isinstance(line, str)]:
                    raise ValueError(
                        f"prompt set {self.name}: {name} of {task_type} holds {odd[0]!r}, which is no text: put it in quotes"
                    )
        if unknown := sorted(_names(self.expansion) - _EXPAND_PLACEHOLDERS):
            raise ValueError(
                f"prompt set {self.name}: expand names {unknown}, known are {sorted(_EXPAND_PLACEHOLDERS)}"
            )
        for task_type, shape in TASK_TYPES.items():
            drawn = {attribute.name for attribute in ATTRIBUTES[task_type]}
            for kind in PROMPT_KINDS:
                if kind == "brainstorm" and not shape.has_brainstorm:
                    continue
                if shape.grounded and task_type not in self.templates[kind]:
                    continue  # a set that nobody writes from passages with
                named = _names(self._template(kind, task_type))
                known = _PLACEHOLDERS[kind] | (drawn if kind == "synthesis" else set())
                if shape.grounded and kind == "synthesis":
                    known = _GROUNDED_PLACEHOLDERS
                if unknown := sorted(named - known):
                    raise ValueError(
                        f"prompt set {self.name}: {kind} {task_type} names {unknown}, known are {sorted(known)}"
                    )
            lines = self.guidelines.get(task_type, ())
            if lines and len(lines) != GUIDELINES.get(task_type):
                raise ValueError(
                    f"prompt set {self.name}: {len(lines)} guidelines for {task_type}, "
                    f"but {GUIDELINES.get(task_type, 0)} are shuffled"
                )
            if unknown := sorted({name for line in lines for name in _names(line)} - drawn):
                raise ValueError(
                    f"prompt set {self.name}: guidelines of {task_type} name {unknown}, known are {sorted(drawn)}"
                )

    def _template(self, kind: PromptKind, task_type: str) -> str:
        """Raises ValueError for an unknown kind or task type, and for the brainstorm of STS."""
        try:
            return self.templates[kind][task_type]
        except KeyError:
            raise ValueError(f"prompt set {self.name} has no {kind} prompt for {task_type}") from None

    def digest(self, kind: PromptKind, task_type: str) -> str:
        """sha256 over all that shapes this kind of prompt for this task type, asked again too, and over nothing else.

        For a synthesis prompt that includes the weights its attributes are drawn by.
        """
        shape: list[Any] = [self.version, kind, task_type, self._template(kind, task_type), self.one_line]
        if kind == "synthesis":
            said = self.said(task_type)
            table = [attribute for attribute in ATTRIBUTES[task_type] if attribute.name in said]
            shape += [
                [asdict(attribute) for attribute in table],
                [self.sayings.get(attribute.name) for attribute in table],
                self.guidelines.get(task_type, ()),
                self.again,
            ]
        elif kind == "judge":
            shape.append(self.candidate)
        elif kind == "brainstorm" and self.examples.get(task_type):
            shape += [self.examples[task_type], self.again]
        return digest(shape)

    def expansion_digest(self) -> str:
        """sha256 over all that shapes the prompt for subtopics."""
        return digest([self.version, "expand", self.expansion, self.one_line])

    def said(self, task_type: str) -> frozenset[str]:
        """The names of the drawn attributes that a synthesis prompt of this task type says when they are there."""
        template = self._template("synthesis", task_type)
        named = _names(template)
        if "guidelines" in named:
            named |= {name for line in self.guidelines.get(task_type, ()) for name in _names(line)}
        if "attributes" in named:
            named |= set(self.sayings)
        return frozenset(attribute.name for attribute in ATTRIBUTES[task_type] if attribute.name in named)

    def brainstorm(self, task_type: str, topic: str, count: int) -> str:
        """Asks for `count` tasks on a topic. STS has no such prompt: there the topic is the task.

        Which examples it shows, and in which order, follows from the topic alone.
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
        """Asks for `count` subtopics of a topic, other ones than those `known`. Raises ValueError where the set cannot."""
        if not self.expansion:
            raise ValueError(f"prompt set {self.name} has no prompt for subtopics (expand)")
        if count < 1:
            raise ValueError(f"count={count}: ask for at least one subtopic")
        there = "; ".join(map(self._line, known)) or "none yet"
        return _fill(self.expansion, {"topic": self._line(topic), "count": str(count), "known": there})

    def synthesis(self, task_type: str, task: str, attributes: Mapping[str, str]) -> str:
        """Asks for one record, with the attributes that `draw_attributes` drew."""
        template = self._template("synthesis", task_type)
        table = [attribute.name for attribute in ATTRIBUTES[task_type]]
        if unknown := sorted(set(attributes) - {*table, GUIDELINE_ORDER}):
            raise ValueError(f"{task_type} has no attributes {unknown}, known are {table}")
        said = [
            _fill(self.sayings[name], {"value": attributes[name]})
            for name in table
            if name in attributes and name in self.sayings
        ]
        if missing := sorted(_names(template).intersection(table) - set(attributes)):
            raise ValueError(f"the {self.name} synthesis prompt of {task_type} needs the attributes {missing}")
        return self._render(
            "synthesis",
            task_type,
            task=self._line(task),
            attributes=", ".join(said) or _NOTHING_DRAWN,
            guidelines=self._guidelines(task_type, attributes),
            **{name: attributes[name] for name in table if name in attributes},
        )

    def grounded(self, task: str, passage: str, query_kind: str, persona: str) -> str:
        """Asks for a query that a passage answers.

        Args:
            task: the instruction that such rows are trained under.
            passage: verbatim.
            query_kind: what the query is to be, in words.
            persona: who writes it.
        """
        template = self._template("synthesis", GROUNDED)
        return self._render(
            "synthesis",
            GROUNDED,
            task=self._line(task),
            query_kind=query_kind,
            persona=self._line(persona),
            passage=self._material(passage, template),
        )

    def ask_again(self, prompt: str, problem: str) -> str:
        """Asks once more what an unusable answer was given to, and tells what was wrong with it."""
        return _fill(self.again, {"prompt": prompt, "problem": self._line(problem)})

    def judge(self, task_type: str, task: str, candidates: Sequence[str], prompt: str | None = None) -> str:
        """Asks for the best and the worst of at least two candidates, numbered from 1 in the given order.

        `prompt` is what the candidates are answers to; without one it is the task.
        """
        if len(candidates) < 2:
            raise ValueError(f"{len(candidates)} candidate(s): a judge compares at least two")
        template = self._template("judge", task_type) + self.candidate
        shown = (
            _fill(self.candidate, {"number": str(number), "text": self._material(text, template)})
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
        """Asks what is wrong with a draft, and for a patch of the fields that are (null for none).

        `prompt` is what the draft is an answer to; without one it is the task.
        """
        template = self._template("revise", task_type)
        return self._render(
            "revise",
            task_type,
            task=self._line(task),
            prompt=self._material(prompt or task, template),
            draft=self._material(draft, template),
        )

    def _render(self, kind: PromptKind, task_type: str, **values: str) -> str:
        template = self._template(kind, task_type)
        keys = _listed(task_type)
        return _fill(template, {"task_type": task_type, "keys": keys, **values})

    def _material(self, text: str, template: str) -> str:
        """A text to be looked at: it cannot close a tag of the template that it is put into."""
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
        return "\n".join(f"- {_fill(line, attributes)}" for line in lines if _names(line) <= set(attributes))


@cache
def _load(name: str) -> PromptSet:
    files = {file.name: file for file in resources.files(__package__).joinpath("prompt_sets").iterdir()}
    sets = [file.removesuffix(".yaml") for file in files if file.endswith(".yaml") and not file.startswith("grounded_")]
    if name not in sets:
        known = ", ".join(sorted(sets))
        raise ValueError(f"no prompt set {name!r}; there are {known}")
    data = yaml.safe_load(files[f"{name}.yaml"].read_text(encoding="utf-8"))
    grounded = yaml.safe_load(files[f"grounded_{name}.yaml"].read_text(encoding="utf-8"))
    return PromptSet.from_data(name, {**data, **{kind: data[kind] | grounded[kind] for kind in grounded}})


def list_schema(count: int | None = None) -> dict[str, Any]:
    """The JSON schema of a list of texts: of exactly `count` ones, or of any number."""
    sized = {"minItems": count, "maxItems": count} if count else {}
    return {"type": "array", "items": {"type": "string"}, **sized}


def schema_for(kind: PromptKind, task_type: str, count: int | None = None) -> dict[str, Any]:
    """The JSON schema of an answer, for engines that can hold a model to one.

    `count` is the number of tasks or of candidates where it is known. A brainstorm answers with a list, which some
    endpoints accept only inside an object; `parse_tasks` reads both.
    """
    text = {"type": "string"}
    fields = dict.fromkeys(TASK_TYPES[task_type].keys, text)
    if kind == "brainstorm":
        return list_schema(count)
    if kind == "synthesis":
        return _object(fields)
    if kind == "judge":
        number = {"type": "integer", "minimum": 1, **({"maximum": count} if count else {})}
        return _object({"reason": text, "best": number, "worst": number})
    patch = _object(fields) | {"required": []}
    return _object({"reason": text, "revision": {"anyOf": [patch, {"type": "null"}]}})


def _object(properties: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": dict(properties),
        "required": list(properties),
        "additionalProperties": False,
    }


@dataclass(frozen=True, slots=True)
class CompactPrompt:
    """What a compact prompt says. `task` is the topic of a brainstorm; what a kind does not have is empty."""

    kind: PromptKind
    task_type: str
    task: str
    keys: tuple[str, ...]
    """Keys of the task type's record."""
    attributes: str = ""
    count: int = 0
    """Tasks asked for."""
    candidates: tuple[str, ...] = ()
    draft: str | None = None


def read_compact(prompt: str) -> CompactPrompt:
    """Read a prompt of the `compact` set back, with or without its last line break. Raises ValueError for any other text.

    >>> read_compact("brainstorm retrieval: Arts/Music\\ntasks: 2\\n").count
    2
    """
    head, *body = prompt.removesuffix("\n").split("\n")
    names, _, task = head.partition(": ")
    first, _, second = names.partition(" ")
    kind, task_type = ("synthesis", first) if not second else (first, second)
    if kind not in _READERS or task_type not in TASK_TYPES or (kind == "synthesis" and second) or not task:
        raise _not_compact(f"first line {_shown(head)} names no kind, task type and task")
    if not body:
        raise _not_compact(f"{kind} with one line")
    read = _READERS[kind](task_type, body)
    return CompactPrompt(task_type=task_type, task=task, keys=TASK_TYPES[task_type].keys, **read)


def _read_brainstorm(task_type: str, lines: list[str]) -> dict[str, Any]:
    match = re.fullmatch(r"tasks: ([1-9][0-9]{0,5})", lines[0])
    if not match or len(lines) != 1 or not TASK_TYPES[task_type].has_brainstorm:
        raise _not_compact(f"brainstorm {task_type} ends in {_shown(lines[-1])}")
    return {"kind": "brainstorm", "count": int(match[1])}


def _read_synthesis(task_type: str, lines: list[str]) -> dict[str, Any]:
    if len(lines) != 2 or lines[1] != _listed(task_type):
        raise _not_compact(f"{task_type} ends in {_shown(lines[-1])} instead of its keys")
    return {"kind": "synthesis", "attributes": "" if lines[0] == _NOTHING_DRAWN else lines[0]}


def _read_judge(task_type: str, lines: list[str]) -> dict[str, Any]:
    for number, line in enumerate(lines, 1):
        if not line.startswith(f"{number}: "):
            raise _not_compact(f"candidate {number} of {task_type} is {_shown(line)}")
    return {"kind": "judge", "candidates": tuple(line.partition(": ")[2] for line in lines)}


def _read_revise(task_type: str, lines: list[str]) -> dict[str, Any]:
    if len(lines) != 1:
        raise _not_compact(f"the draft of {task_type} stands on {len(lines)} lines")
    return {"kind": "revise", "draft": lines[0]}


_READERS: dict[str, Callable[[str, list[str]], dict[str, Any]]] = {
    "brainstorm": _read_brainstorm,
    "synthesis": _read_synthesis,
    "judge": _read_judge,
    "revise": _read_revise,
}


def _listed(task_type: str) -> str:
    """The keys of a task type in quotes, as they stand in the answer: small models copy what looks the same."""
    return ", ".join(f'"{key}"' for key in TASK_TYPES[task_type].keys)


def _shown(text: str) -> str:
    return repr(text[:60])


def _not_compact(why: str) -> ValueError:
    return ValueError(f"not a prompt of the compact set: {why}")
