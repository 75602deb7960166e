"""A prompt of the `compact` set, read back into what it asks for: the simulated teacher answers by it.

Belongs here: the inverse of `prompt_sets/compact.yaml`. Not here: any other set.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from speed_assets.domain.prompts.answer_schemas import quoted_keys
from speed_assets.domain.prompts.layout import NOTHING_DRAWN, PromptKind
from speed_assets.domain.task_types import TASK_TYPES


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
    """Read a prompt of the `compact` set back, with or without its last line break.

    Raises:
        ValueError: The text is no prompt of that set.

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
    if len(lines) != 2 or lines[1] != quoted_keys(task_type):
        raise _not_compact(f"{task_type} ends in {_shown(lines[-1])} instead of its keys")
    return {"kind": "synthesis", "attributes": "" if lines[0] == NOTHING_DRAWN else lines[0]}


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


def _shown(text: str) -> str:
    return repr(text[:60])


def _not_compact(why: str) -> ValueError:
    return ValueError(f"not a prompt of the compact set: {why}")
