"""Whether a prompt set can be rendered: every template names what it needs, and nothing that nobody fills in.

Belongs here: what is wrong with a set as a whole. Not here: what a template may name (`layout.py`), rendering (`prompt_set.py`).
"""

from __future__ import annotations

from collections.abc import Set as AbstractSet
from typing import TYPE_CHECKING

from speed_assets.domain.attributes import ATTRIBUTES, GUIDELINES
from speed_assets.domain.prompts.layout import (
    EXPAND_PLACEHOLDERS,
    GIVEN_TEXT_PLACEHOLDERS,
    GROUNDED_PLACEHOLDERS,
    LANGUAGE_PLACEHOLDERS,
    NEEDED,
    PLACEHOLDERS,
    PROMPT_KINDS,
    PromptKind,
    languages_needed,
    placeholders,
)
from speed_assets.domain.task_types import TASK_TYPES, TaskType

if TYPE_CHECKING:
    from speed_assets.domain.prompts.prompt_set import PromptSet


def check_set(prompts: PromptSet) -> None:
    """Raises ValueError when a template of the set cannot be rendered; the message names it."""
    name = prompts.name
    if "prompt" not in placeholders(prompts.again) or not placeholders(prompts.again) <= {"prompt", "problem"}:
        raise ValueError(f"prompt set {name}: again must name {{prompt}}, may name {{problem}}, and nothing else")
    for part, lists in (("examples", prompts.examples), ("guidelines", prompts.guidelines)):
        for task_type, lines in lists.items():
            if odd := [line for line in lines if not isinstance(line, str)]:
                raise ValueError(
                    f"prompt set {name}: {part} of {task_type} holds {odd[0]!r}, which is no text: put it in quotes"
                )
    if unknown := sorted(placeholders(prompts.expansion) - EXPAND_PLACEHOLDERS):
        raise ValueError(f"prompt set {name}: expand names {unknown}, known are {sorted(EXPAND_PLACEHOLDERS)}")
    if prompts.expansion and "topic" not in placeholders(prompts.expansion):
        raise ValueError(f"prompt set {name}: expand must name {{topic}}")
    if "text" not in placeholders(prompts.candidate):
        raise ValueError(f"prompt set {name}: candidate must name {{text}}")
    for task_type, shape in TASK_TYPES.items():
        drawn = {attribute.name for attribute in ATTRIBUTES[task_type]}
        for kind in PROMPT_KINDS:
            if kind == "brainstorm" and not shape.has_brainstorm:
                continue
            if shape.grounded and shape.name not in prompts.templates[kind]:
                continue  # a set without prompts for passages
            _check_template(prompts, kind, shape, drawn)
        _check_guidelines(prompts, task_type, drawn)


def _check_template(prompts: PromptSet, kind: PromptKind, shape: TaskType, drawn: AbstractSet[str]) -> None:
    named = placeholders(prompts.template(kind, shape.name))
    known = PLACEHOLDERS[kind] | (drawn if kind == "synthesis" else set())
    needed = NEEDED[kind]
    if shape.grounded and kind == "synthesis":
        given = GIVEN_TEXT_PLACEHOLDERS | drawn
        known, needed = given if shape.passage == "query" else GROUNDED_PLACEHOLDERS, "passage"
    spoken = prompts.multilingual and kind == "synthesis"
    if spoken:
        known = known | LANGUAGE_PLACEHOLDERS
    where = f"prompt set {prompts.name}: {kind} {shape.name}"
    if unknown := sorted(named - known):
        raise ValueError(f"{where} names {unknown}, known are {sorted(known)}")
    if needed not in named:
        raise ValueError(f"{where} must name {{{needed}}}")
    if spoken and (missing := sorted(languages_needed(shape) - named, reverse=True)):
        words = " and ".join(f"{{{name}}}" for name in missing)
        raise ValueError(f"{where} must name {words}, as the recipe draws `languages`")


def _check_guidelines(prompts: PromptSet, task_type: str, drawn: AbstractSet[str]) -> None:
    lines = prompts.guidelines.get(task_type, ())
    if lines and len(lines) != GUIDELINES.get(task_type):
        raise ValueError(
            f"prompt set {prompts.name}: {len(lines)} guidelines for {task_type}, "
            f"but {GUIDELINES.get(task_type, 0)} are shuffled"
        )
    if unknown := sorted({name for line in lines for name in placeholders(line)} - drawn):
        raise ValueError(
            f"prompt set {prompts.name}: guidelines of {task_type} name {unknown}, known are {sorted(drawn)}"
        )
