"""Recipes that extend others, and copied recipes that find their files."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from speed_assets.orchestration.explain_field import explain_field
from speed_assets.orchestration.new_project import recipe_schema
from speed_assets.recipe import RECIPES, RecipeError, demonstration_notice, load_recipe, shipped_files


def written(folder: Path, name: str, text: str) -> Path:
    file = folder / name
    file.write_text(text)
    return file


def test_a_child_holds_only_what_differs(tmp_path: Path) -> None:
    file = written(
        tmp_path, "mine.yaml", "extends: laptop\nname: mine\nembedding_model: {batch_size: 8}\nrow_verdicts: null\n"
    )
    child, parent = load_recipe(file), load_recipe("laptop")
    assert (child.name, child.embedding_model.batch_size, child.row_verdicts) == ("mine", 8, None)
    assert child.embedding_model.epochs == parent.embedding_model.epochs
    assert explain_field(child, "embedding_model.batch_size").value == 8
    assert child.published()["embedding_model"]["batch_size"] == 8, "a release states the effective recipe"


def test_fingerprints_depend_on_the_effective_recipe_only(tmp_path: Path) -> None:
    file = written(tmp_path, "mine.yaml", "extends: offline\nname: offline\n")
    child, parent = load_recipe(file), load_recipe("offline")
    graph = parent.graph()
    assert [child.part(stage) for stage in graph.values()] == [parent.part(stage) for stage in graph.values()]
    assert child.digest() == parent.digest()


def test_a_chain_and_paths_of_each_recipe(tmp_path: Path) -> None:
    (tmp_path / "below").mkdir()
    written(tmp_path / "below", "own.txt", "".join(f"Sea/Fish/{n}\n" for n in range(20)))
    written(tmp_path / "below", "base.yaml", "extends: laptop\nname: base\ntopics: {file: own.txt}\n")
    recipe = load_recipe(written(tmp_path, "top.yaml", "extends: below/base.yaml\nname: top\nseed: 5\n"))
    assert recipe.topics.file == str(tmp_path / "below" / "own.txt")
    assert recipe.seed == 5


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("extends: nowhere\nname: x\n", "no recipe at .*nowhere.yaml: name a YAML file or one of gpu, laptop"),
        ("extends: none.yaml\nname: x\n", "no recipe at .*none.yaml"),
        ("extends: x.yaml\nname: x\n", "cannot extend itself: x.yaml -> x.yaml"),
        ("extends: [laptop]\nname: x\n", "extends: name a YAML file"),
        ("extends: laptop\n", "has a name of its own"),
        ("extends: laptop\nname: x\nembedding_model: {bach_size: 1}\n", "embedding_model.bach_size: unknown field"),
    ],
)
def test_one_clear_message(tmp_path: Path, text: str, words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        load_recipe(written(tmp_path, "x.yaml", text))


def test_circles_and_long_chains_end(tmp_path: Path) -> None:
    written(tmp_path, "a.yaml", "extends: b.yaml\nname: a\n")
    written(tmp_path, "b.yaml", "extends: a.yaml\nname: b\n")
    with pytest.raises(RecipeError, match=r"a.yaml -> b.yaml -> a.yaml"):
        load_recipe(tmp_path / "a.yaml")
    for n in range(12):
        written(tmp_path, f"c{n}.yaml", f"extends: c{n + 1}.yaml\nname: c{n}\n")
    with pytest.raises(RecipeError, match="more than 8 recipes above"):
        load_recipe(tmp_path / "c0.yaml")


@pytest.mark.parametrize("name", ["laptop", "natural"])
def test_a_copied_recipe_finds_its_files(tmp_path: Path, name: str) -> None:
    copied = load_recipe(shutil.copy(RECIPES / f"{name}.yaml", tmp_path / "copy.yaml"))
    topics = Path(load_recipe(name).topics.file)
    assert copied.topics.file == str(topics)
    assert f"topics.file: {topics.name}" in shipped_files(copied), "the command reports it"
    assert all(Path(folder).is_dir() for folder in copied.evaluation.local)
    text = f"file: {os.path.relpath(topics, tmp_path)}"
    assert f"topics.file: {topics.name}" not in shipped_files(copied, text, tmp_path), "the user has named it"
    written(tmp_path, topics.name, "Sea/Fish/Shark\n")
    assert load_recipe(tmp_path / "copy.yaml").topics.file == str(tmp_path / topics.name), "its own file goes first"


def test_a_missing_own_file_is_named_where_the_recipe_is(tmp_path: Path) -> None:
    recipe = load_recipe(written(tmp_path, "x.yaml", "extends: laptop\nname: x\ntopics: {file: my_topics.txt}\n"))
    assert recipe.topics.file == str(tmp_path / "my_topics.txt")


def test_the_schema_takes_both_kinds() -> None:
    validator = pytest.importorskip("jsonschema").Draft202012Validator(recipe_schema())
    assert validator.is_valid({"extends": "laptop", "name": "x", "embedding_model": {"batch_size": 8}})
    assert not validator.is_valid({"extends": "laptop", "name": "x", "embeding_model": {}})
    assert not validator.is_valid({"extends": "laptop"})
    assert not validator.is_valid({"name": "x"}), "a recipe of its own is complete"


def test_a_toy_language_is_announced_for_topics_of_ones_own(tmp_path: Path) -> None:
    own = written(tmp_path, "marine.txt", "".join(f"Sea/Fish/{n}\n" for n in range(20)))
    notice = demonstration_notice(load_recipe("offline", own))
    assert notice is not None
    assert "toy language" in notice
    assert "marine.txt" in notice
    assert demonstration_notice(load_recipe("offline")) is None
    assert (
        demonstration_notice(load_recipe("offline", shutil.copy(RECIPES / "topics.txt", tmp_path / "same.txt"))) is None
    )
    assert demonstration_notice(load_recipe("laptop", own)) is None
