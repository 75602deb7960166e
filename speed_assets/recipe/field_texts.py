"""What each field of a recipe means: the text below it in its section.

Read from the source when somebody asks. Collecting the texts with the classes would cost every load of the definitions a tenth of
a second.

Belongs here: finding those texts. Not here: who shows them (`speed explain`, `speed schema`).
"""

from __future__ import annotations

import ast
import inspect
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from speed_assets.recipe.model import Recipe


def field_text(section: type[BaseModel], field: str) -> str | None:
    """The text below a field in its section, or in the one that it inherits the field from; None where there is none."""
    for owner in section.__mro__:
        module = sys.modules[owner.__module__]
        if issubclass(owner, BaseModel) and owner is not BaseModel and module.__file__:
            text = _texts_in(module.__file__).get((owner.__name__, field))
            if text is not None:
                return text
    return None


def schema_with_texts() -> dict[str, Any]:
    """The JSON schema of recipes, in which each field has its text."""
    schema = Recipe.model_json_schema()
    sections = {section.__name__: section for section in _sections(Recipe)}
    for name, definition in [("Recipe", schema), *schema.get("$defs", {}).items()]:
        for field, described in definition.get("properties", {}).items():
            text = field_text(sections[name], field)
            if text is not None:
                described.setdefault("description", text)
    return schema


def _sections(annotation: Any) -> Iterator[type[BaseModel]]:
    """The sections in a type, and those in their fields."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
        for info in annotation.model_fields.values():
            yield from _sections(info.annotation)
    for part in get_args(annotation):
        yield from _sections(part)


@cache
def _texts_in(file: str) -> dict[tuple[str, str], str]:
    """{(class, field): text} of a source file."""
    found = {}
    for node in ast.walk(ast.parse(Path(file).read_text(encoding="utf-8"))):
        if not isinstance(node, ast.ClassDef):
            continue
        for line, below in zip(node.body, node.body[1:], strict=False):
            if (
                isinstance(line, ast.AnnAssign)
                and isinstance(line.target, ast.Name)
                and isinstance(below, ast.Expr)
                and isinstance(below.value, ast.Constant)
                and isinstance(below.value.value, str)
            ):
                found[node.name, line.target.id] = inspect.cleandoc(below.value.value)
    return found
