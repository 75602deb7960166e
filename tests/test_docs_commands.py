"""Every command of README and docs exists, has the options that are written, and is run by a test or listed with the reason."""

from __future__ import annotations

import re
from importlib.util import find_spec
from typing import Any

import pytest
import typer
import yaml
from typer.exceptions import TyperException

from speed_assets.cli.app import app
from speed_assets.recipe import PROJECT, RECIPES, Recipe, RecipeError, load_recipe, parse_recipe
from tests.support.docs_commands import NOT_RUN, RUN_BY, Command, commands, entry_of, pages

FOUND = [command for page in pages() for command in commands(page)]
PLACEHOLDERS = re.compile(r"[A-Z]+(/[A-Z]+)?|\.\.\.|\[.*|.*\]|R")


def test_there_are_commands() -> None:
    assert len(FOUND) > 200
    readme = {command.text for command in FOUND if command.page.name == "README.md" and command.page.parent == PROJECT}
    assert "make demo" in readme


def test_every_command_is_run_by_a_test_or_listed_with_the_reason() -> None:
    unknown = {
        f"{command.page.relative_to(PROJECT)}: {command.text}"
        for command in FOUND
        if entry_of(command, RUN_BY) is None and entry_of(command, NOT_RUN) is None
    }
    assert not unknown, "run them in a test and add them to RUN_BY, or to NOT_RUN with the reason"


@pytest.mark.parametrize(("command", "where"), RUN_BY.items())
def test_the_test_that_is_named_runs_the_command(command: str, where: str) -> None:
    if not where.startswith("tests/"):
        return
    text = (PROJECT / where).read_text()
    assert f'"{command.split()[1]}"' in text or f"{command.split()[1]} " in text, f"{where} has no {command}"


@pytest.mark.parametrize(
    "command", [c for c in FOUND if c.words[0] == "speed"], ids=lambda c: f"{c.page.stem}: {c.text}"
)
def test_a_command_of_speed_exists_with_its_options(command: Command) -> None:
    group: Any = typer.main.get_command(app)
    words = list(command.words[1:])
    while words and words[0].startswith("--"):
        assert any(words[0] in parameter.opts for parameter in group.params) or words[0] == "--help"
        words = words[2:] if words[0] == "--home" else words[1:]
    if not words:
        return
    found = group.commands.get(words[0])
    assert found is not None, f"speed {words[0]} is no command"
    while words[1:] and words[1] in getattr(found, "commands", {}):
        words, found = words[1:], found.commands[words[1]]
    options = {name for parameter in found.params for name in parameter.opts} | {"--help"}
    written = [word.strip("[]").partition("=")[0] for word in words[1:] if word.strip("[").startswith("--")]
    assert set(written) <= options
    if command.shown and not any(PLACEHOLDERS.fullmatch(word) for word in words[1:]) and ">" not in words:
        try:
            found.make_context(words[0], words[1:])
        except TyperException as error:
            pytest.fail(error.format_message())


def test_targets_and_modules_exist() -> None:
    makefile = (PROJECT / "Makefile").read_text()
    missing = []
    for command in FOUND:
        if command.words[0] == "make":
            target = next((word for word in command.words[1:] if "=" not in word), "help")
            if not re.search(rf"^[^\n:]*(?<![\w-]){re.escape(target)}(?![\w-])[^\n:]*:", makefile, re.MULTILINE):
                missing.append(command.text)
        module = command.words[2] if command.words[:2] == ("python", "-m") else ""
        if module.partition(".")[0] in ("benchmarks", "scripts", "speed_assets") and find_spec(module) is None:
            missing.append(command.text)
    assert not missing


def blocks_of_recipes() -> list[tuple[str, dict[str, Any]]]:
    """YAML blocks of the pages that hold sections of a recipe, each with its page."""
    blocks = re.compile(r"^```yaml\n(.*?)^```", re.MULTILINE | re.DOTALL)
    found = [(page.stem, yaml.safe_load(text)) for page in pages() for text in blocks.findall(page.read_text())]
    return [(page, data) for page, data in found if isinstance(data, dict) and set(data) & set(Recipe.model_fields)]


def test_yaml_of_the_pages_has_fields_that_recipes_have() -> None:
    blocks = blocks_of_recipes()
    assert {"teachers", "your-domain"} <= {page for page, _ in blocks}
    for page, data in blocks:
        told = ""
        try:
            parse_recipe({"extends": "gpu", "name": "shown", **data}, RECIPES / "shown.yaml")
        except RecipeError as error:  # a piece of a recipe need not fit into every other
            told = str(error)
        assert "unknown field" not in told, page


def test_the_price_that_the_page_shows_is_that_of_a_teacher() -> None:
    (shown,) = (data for page, data in blocks_of_recipes() if page == "teachers" and "money" in data)
    parent = load_recipe("gpu").model_dump(mode="json")
    recipe = parse_recipe({**parent, **shown}, RECIPES / "shown.yaml")
    assert recipe.money.prices is not None
    assert recipe.money.prices.models[recipe.teacher.model].batch_factor == 0.5
    with pytest.raises(RecipeError, match="needs the price of"):
        parse_recipe({**parent, "money": {"run": shown["money"]["run"]}}, RECIPES / "shown.yaml")
