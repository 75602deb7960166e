"""`speed init`: the files of a new project, copied from a shipped recipe.

Belongs here: writing those files. Not here: the shipped recipes, printing (`speed_assets/cli`).
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from speed_assets.recipe import RECIPES, SHIPPED, RecipeError, load_recipe
from speed_assets.recipe.extending import EXTENDS
from speed_assets.recipe.field_texts import schema_with_texts

TEMPLATES = ("laptop", "gpu")
"""Shipped recipes that a project may start from."""

_HEAD = """\
# yaml-language-server: $schema=recipe.schema.json
# Recipe of {name}, copied from `{template}`. Editors complete fields and show their meaning from recipe.schema.json;
# `speed explain FIELD --recipe recipe.yaml` also names what a change makes stale. Begin with `topics` and `teacher`.
#
"""
_ENVIRONMENT = """\
# Copy to .env, fill in, and load it in the shell: set -a; . ./.env; set +a
# Keys are read from the environment only. They are never written to a recipe, a log or an artifact.

# Folder with artifacts, ledger, releases and the Dagster instance.
SPEED_HOME=.speed
# Recipe of commands without --recipe.
SPEED_RECIPE=recipe.yaml

# Key of the teacher's endpoint (teacher.key_variable in the recipe names this variable).
{key_variable}=
# Token of the model hub, for gated models and for `speed push`.
HF_TOKEN=
"""
_README = """\
# {name}

A SPEED project: a text embedding model for your own domain, trained on data that small aligned models write.

| file | content |
|---|---|
| `recipe.yaml` | every number of the loop, with unit and source; copied from the recipe `{template}` |
| `topics.txt` | the topics that texts are written about, one path a line: replace them with those of your domain |
| `alignment_topics.txt` | topics that the small models are aligned on; they may stay |
| `.env.example` | the environment variables: copy to `.env`, fill in |
| `recipe.schema.json` | for completion in editors; `speed schema` writes it again |
| `.speed/dagster/dagster.yaml` | settings of the Dagster instance |

Load the environment first: `set -a; . ./.env; set +a`. Then:

```bash
speed doctor     # key, endpoint, models, disk: what would stop a run, before anything is paid
speed plan       # dry run: what would be made, why, and the estimated cost; no API calls
speed rehearse   # the complete recipe on a few rows, with an estimate for the full run
speed run        # the full run; interrupted or stopped by a budget, it resumes
speed report --open   # one page about it
```

`speed ui` opens the Dagster UI on the same home.
"""


def recipe_schema() -> dict[str, Any]:
    """The JSON schema of recipes, for completion and validation in editors."""
    complete = schema_with_texts()
    sections = complete.pop("$defs")
    parts = {f"{_PART}{name}": _part_of(section) for name, section in {**sections, "Recipe": complete}.items()}
    part = parts[f"{_PART}Recipe"]
    part["properties"] = {EXTENDS: _EXTENDS, **part["properties"]}
    part["required"] = [EXTENDS, "name"]
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "SPEED recipe",
        "type": "object",
        "if": {"required": [EXTENDS]},
        "then": {"$ref": f"#/$defs/{_PART}Recipe"},
        "else": {"$ref": "#/$defs/Recipe"},
        "$defs": {**sections, "Recipe": complete, **parts},
    }


_PART = "Part-of-"
"""Before the name of a section in the schema of a recipe that extends another: every field may be left out."""
_EXTENDS = {
    "type": "string",
    "description": "Recipe that this one extends: the name of a shipped one, or a YAML file. Only what differs is written here.",
}


def _part_of(schema: Any) -> Any:
    """A schema without required fields, whose sections are parts as well."""
    if isinstance(schema, list):
        return [_part_of(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        key: value.replace("#/$defs/", f"#/$defs/{_PART}") if key == "$ref" else _part_of(value)
        for key, value in schema.items()
        if key != "required" or not isinstance(value, list)
    }


def new_project(folder: Path, template: str = "laptop") -> list[Path]:
    """Write the files of a new project.

    Args:
        folder: a folder that does not exist or is empty.
        template: the shipped recipe to copy, one of `TEMPLATES`.

    Returns:
        The files that were written.

    Raises:
        RecipeError: when the folder holds files, or cannot be written.
    """
    if template not in TEMPLATES:
        raise RecipeError(f"--template {template}: choose one of {', '.join(TEMPLATES)}")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        if any(folder.iterdir()):
            raise RecipeError(f"{folder} is not empty: name a new folder")
        return [_write(folder / name, text) for name, text in _files(folder, template).items()]
    except OSError as error:
        raise RecipeError(f"{folder} cannot be written: {error.strerror or error}") from None


def component_files(folder: Path, template: str) -> dict[str, str]:
    """{name: text} of what a recipe needs in the folder of a Dagster component that carries its name.

    Raises RecipeError for an unknown template.
    """
    if template not in TEMPLATES:
        raise RecipeError(f"template {template}: choose one of {', '.join(TEMPLATES)}")
    return {**_recipe_files(folder, template), "recipe.schema.json": json.dumps(recipe_schema(), indent=1) + "\n"}


def _recipe_files(folder: Path, template: str) -> dict[str, str]:
    """A copy of a shipped recipe under the folder's name, and the topic files that it reads."""
    source = RECIPES / f"{template}.yaml"
    shipped = load_recipe(template)
    name = _name_of(folder)
    text = source.read_text(encoding="utf-8")
    for field, value in (("name", name), ("description", json.dumps(f"Embedding model of {name}, from `{template}`."))):
        text = re.sub(rf"^{field}: .*$", lambda _found, line=f"{field}: {value}": line, text, count=1, flags=re.M)  # type: ignore[misc]
    files = {"recipe.yaml": _HEAD.format(name=name, template=template) + text}
    for path in {shipped.topics.file, shipped.topics.alignment} - {None}:
        files[Path(str(path)).name] = Path(str(path)).read_text(encoding="utf-8")
    return files


def _files(folder: Path, template: str) -> dict[str, str]:
    name, shipped = _name_of(folder), load_recipe(template)
    return _recipe_files(folder, template) | {
        "recipe.schema.json": json.dumps(recipe_schema(), indent=1) + "\n",
        ".env.example": _ENVIRONMENT.format(key_variable=shipped.teacher.key_variable or "OPENAI_API_KEY"),
        ".gitignore": ".speed/\n.env\n",
        ".speed/dagster/dagster.yaml": (SHIPPED / "dagster.yaml").read_text(encoding="utf-8"),
        "README.md": _README.format(name=name, template=template),
    }


def _name_of(folder: Path) -> str:
    """A recipe's name from that of its folder."""
    return re.sub(r"[^a-z0-9_-]+", "_", folder.resolve().name.lower()).strip("_-")[:41] or "mine"


def _write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
