"""What `speed explain` says that a change of a field makes stale: the same as code versions and fingerprints say.

`test_loop.py` compares it with what is planned in a home in which all is made.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from resources.store.artifacts import Artifacts
from resources.store.store import Store
from speed_assets.orchestration.explain_field import explain_field
from speed_assets.orchestration.field_staleness import names_content
from speed_assets.recipe import Recipe, RecipeError, load_recipe
from speed_assets.recipe.field_paths import all_fields, close_fields, did_you_mean
from speed_assets.recipe.fingerprint_parts import UNFINGERPRINTED
from tests.support.tiny import tiny_recipe


def versions(recipe: Recipe, store: Store) -> dict[str, set[tuple[str | None, str]]]:
    """By asset, the versions that code, recipe and files give its artifacts."""
    found: dict[str, set[tuple[str | None, str]]] = {}
    artifacts = Artifacts(recipe, store)
    for stage, partition in artifacts.in_build_order():
        found.setdefault(stage.name, set()).add((partition, artifacts.code_version(stage.name, partition)))
    return found


@pytest.mark.parametrize(
    ("name", "field"),
    [
        ("laptop", "topics.file"),
        ("laptop", "topics.alignment"),
        ("laptop", "evaluation.local"),
        ("laptop", "prompts.file"),
        ("own_corpus", "corpus.path"),
        ("own_corpus", "own_evaluation.queries"),
    ],
)
def test_another_file_makes_stale_what_reads_it(name: str, field: str, tmp_path: Path) -> None:
    """No file that the field names is there: what reads it cannot have the version that it had."""
    store, other = Store(tmp_path / "home"), str(tmp_path / "other")
    (tmp_path / "passages.txt").write_text("A passage.")
    readable = {"corpus.path": str(tmp_path / "passages.txt")} if name == "own_corpus" else {}
    recipe = load_recipe(name, None, readable)
    changed = load_recipe(name, None, readable | {field: [other] if field == "evaluation.local" else other})
    before, after = versions(recipe, store), versions(changed, store)
    told = explain_field(recipe, field)
    assert {name for name in before.keys() & after.keys() if before[name] != after[name]} == set(told.stale)
    assert set(told.by_content) - {"release"}, "what the file holds is in a fingerprint"


def test_fields_whose_content_counts_are_those_of_which_fingerprints_say_so() -> None:
    said = [name for name, reason in UNFINGERPRINTED.items() if "content" in reason and name != "senior_data.writer"]
    patterns = [re.compile(re.escape(name).replace(r"\*", ".+")) for name in [*said, "prompts.file"]]
    named = {name for name in all_fields() if any(pattern.fullmatch(name) for pattern in patterns)}
    assert len(named) > len(patterns)
    missing = {name for name in named if not names_content(name)}
    assert not missing
    assert not names_content("topics.limit")
    assert not names_content("name")


def test_an_entry_of_a_list_or_mapping_is_explained_with_the_values_of_all() -> None:
    recipe = tiny_recipe(final_triplets__readmit=[{"reason": "doubted"}, {"reason": "unlikely"}])
    told = explain_field(recipe, "final_triplets.readmit.1.reason")
    assert (told.field, told.value) == ("final_triplets.readmit.<N>.reason", ["doubted", "unlikely"])
    assert {"final_triplets", "release"} <= set(told.stale)
    price = explain_field(load_recipe("gpu"), "money.prices.models.gpt-4.1-2025-04-14.input_per_million")
    assert (price.value, price.stale) == ({"gpt-4.1-2025-04-14": 2.0}, [])


def test_the_section_that_a_recipe_lacks_is_named() -> None:
    assert explain_field(load_recipe("offline"), "corpus.path").absent == "corpus"
    assert explain_field(load_recipe("own_corpus"), "corpus.path").absent is None


def test_an_unknown_field_gets_one_suggestion_in_a_file_and_on_the_command_line() -> None:
    for changes, words in (
        ({"embedding_model.lerning_rate": 1}, "embedding_model.lerning_rate: unknown field (value 1). Did you mean embedding_model.learning_rate?"),
        ({"teachr": {}}, "teachr: unknown field. Did you mean teacher?"),
        ({"learning_rate": 1}, r"Did you mean .*_model.learning_rate.* or \d more\?"),
        ({"final_triplets.readmit": [{"reson": "doubted"}]}, "readmit.0.reson: unknown field. Did you mean final_triplets.readmit.0.reason?"),
        ({"qqqqq": 1}, "qqqqq: unknown field .*; remove it or correct its name"),
    ):  # fmt: skip
        with pytest.raises(RecipeError, match=words.replace("(value 1)", r"\(value 1\)")) as raised:
            load_recipe("offline", None, changes)
        assert str(raised.value).count("Did you mean") <= 1
    assert close_fields("embedding_model.batch_sise")[0] == "embedding_model.batch_size"
    assert did_you_mean([]) == ""
