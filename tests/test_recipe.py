"""Recipes: what loads, what is refused and in which words."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from dagster import build_init_resource_context

from resources.inputs.external_digests import external_digest
from resources.inputs.prompt_files import prompt_set
from speed_assets.assets.stage_run import StageRun
from speed_assets.build import FUNCTIONS, build_defs
from speed_assets.domain.task_types import TOPIC_TYPES
from speed_assets.orchestration.plan_warnings import taught_unchecked
from speed_assets.recipe import PROJECT, RECIPES, Corpus, Recipe, RecipeError, RecipeView, load_recipe, parse_recipe
from tests.support.tiny import tiny_data, tiny_recipe, write_recipe


def test_a_plan_warns_where_rows_are_taught_that_no_rule_has_read() -> None:
    laptop = load_recipe("laptop")
    assert taught_unchecked(laptop) == []
    unread = laptop.model_copy(update={"seed_data": laptop.seed_data.model_copy(update={"rules": None})})
    (line,) = taught_unchecked(unread)
    assert line.startswith("seed_data.rules is not set")
    assert taught_unchecked(load_recipe("offline")) == []


@pytest.mark.parametrize("name", sorted(path.stem for path in RECIPES.glob("*.yaml")))
def test_every_shipped_recipe_loads(name: str) -> None:
    recipe = load_recipe(name)
    assert recipe.name == name
    assert "release" in recipe.graph()


def test_paper_recipe_spends_the_papers_calls() -> None:
    recipe = load_recipe("paper")
    assert recipe.seed_data.rows.total() == 25_000
    assert recipe.preference_pairs is not None
    assert 2 * recipe.preference_pairs.prompts.total() == 10_000
    assert recipe.revision_data is not None
    assert recipe.revision_data.rows.total() == 10_000
    assert recipe.senior_data is not None
    assert recipe.senior_data.rows.total() == 1_150_000


def test_teacher_only_trains_no_generator() -> None:
    assert list(load_recipe("teacher_only").graph()) == [
        "evaluation_texts", "topics", "topic_tree", "task_list", "seed_data", "final_triplets", "quarantine",
        "embedding_model", "mteb_scores", "release",
    ]  # fmt: skip


def test_without_dpo_the_junior_writes_and_nobody_is_asked_to_judge() -> None:
    graph = tiny_recipe(senior_data__writer="junior_model", mteb_scores__baselines=[]).graph()
    assert not {"senior_model", "preference_pairs"} & set(graph)
    assert graph["senior_data"].inputs == ("task_list", "junior_model")
    assert graph["row_scores"].inputs == ("revised_data", "junior_model"), "rows are read by who wrote them"
    neither = tiny_recipe(
        senior_data__writer="junior_model", final_triplets__source="senior_data", mteb_scores__baselines=[]
    ).graph()
    assert [name for name, stage in neither.items() if stage.asks_teacher] == [
        "task_list",
        "seed_data",
        "row_verdicts",
    ]


@pytest.mark.parametrize(
    ("section", "field", "value", "words"),
    [
        ("seed_data", "rows", {"classification": -1}, "seed_data.rows.classification"),
        ("embedding_model", "learning_rate", -0.1, "embedding_model.learning_rate"),
        ("embedding_model", "learnig_rate", 0.1, "unknown field"),
        ("prompts", "set", "tiny", "'full' or 'compact'"),
        ("junior_data", "candidates", 1, "greater than or equal to 2"),
        ("embedding_model", "temperature", float("nan"), "embedding_model.temperature"),
    ],
)
def test_refusal_names_field_value_and_what_is_allowed(section: str, field: str, value: object, words: str) -> None:
    data = tiny_data()
    data[section][field] = value
    with pytest.raises(RecipeError) as error:
        parse_recipe(data, RECIPES / "x.yaml")
    assert words in str(error.value)
    assert str(value) in str(error.value) or "rows" in field
    assert "pydantic" not in str(error.value)


def test_missing_section_says_who_needs_it() -> None:
    data = tiny_data()
    del data["senior_model"]
    with pytest.raises(RecipeError, match="`senior_model` is missing"):
        parse_recipe(data, RECIPES / "x.yaml")


def test_more_judged_than_written_is_refused() -> None:
    with pytest.raises(RecipeError, match="is more than junior_data"):
        tiny_recipe(preference_pairs__prompts=dict.fromkeys(TOPIC_TYPES, 999))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("name: [1,", "not valid YAML"),
        ("name: a\nname: b\n", "stands twice"),
        ("- a\n- b\n", "mapping of sections"),
        ("", "mapping of sections"),
    ],
)
def test_broken_file(tmp_path: Path, text: str, words: str) -> None:
    path = tmp_path / "broken.yaml"
    path.write_text(text)
    with pytest.raises(RecipeError, match=words):
        load_recipe(path)


def test_undecodable_file(tmp_path: Path) -> None:
    path = tmp_path / "broken.yaml"
    path.write_bytes(b"\xff\xfe\x00name")
    with pytest.raises(RecipeError, match="UTF-8"):
        load_recipe(path)


def test_unknown_recipe_lists_the_known() -> None:
    with pytest.raises(RecipeError, match="offline"):
        load_recipe("nonsense")


def test_topics_replace_the_recipes_file(tmp_path: Path) -> None:
    topics = tmp_path / "mine.txt"
    assert load_recipe("offline", topics).topics.file == str(topics)


def test_round_trip_through_a_file(tmp_path: Path) -> None:
    assert load_recipe(write_recipe(tmp_path, tiny_data())).digest() == tiny_recipe().digest()


def test_settings_of_memory_are_in_no_fingerprint() -> None:
    lora = {"r": 4, "alpha": 8}
    plain = tiny_recipe(junior_model__lora=lora)
    memory = {"junior_model__micro_batch_size": 2, "junior_model__gradient_checkpointing": True}
    changed = tiny_recipe(junior_model__lora=lora, embedding_model__micro_batch_size=8, **memory)
    graph = plain.graph()
    for name in ("junior_model", "embedding_model", "baseline_models", "mteb_scores"):
        assert plain.part(graph[name]) == changed.part(graph[name])
    assert plain.digest() == changed.digest()
    other = tiny_recipe(junior_model__lora={"r": 8, "alpha": 8})
    assert plain.part(graph["junior_model"]) != other.part(graph["junior_model"])
    assert plain.digest() != other.digest()


def test_what_cannot_be_trained_is_refused_before_anything_is_paid() -> None:
    with pytest.raises(RecipeError, match="batch_size=4 is no multiple of micro_batch_size=3"):
        tiny_recipe(junior_model__micro_batch_size=3)
    with pytest.raises(RecipeError, match="give both the same r and alpha"):
        tiny_recipe(junior_model__lora={"r": 4, "alpha": 8}, senior_model__lora={"r": 8, "alpha": 8})


def test_embedding_options_that_cannot_be_are_refused() -> None:
    with pytest.raises(RecipeError, match=r"average_last=4 is more than epochs=2.5"):
        tiny_recipe(embedding_model__epochs=2.5, embedding_model__average_last=4)
    assert tiny_recipe(embedding_model__epochs=2.5, embedding_model__average_last=3)
    with pytest.raises(RecipeError, match=r"matryoshka=\[32\] is not below dimensions=32"):
        tiny_recipe(embedding_model__matryoshka=[16, 32])


def test_wording_of_ones_own_is_found_next_to_the_recipe_and_counts_by_content(tmp_path: Path) -> None:
    path = write_recipe(tmp_path, tiny_data() | {"prompts": {"set": "compact", "file": "mine.yaml"}})
    plain, mine = tiny_recipe(), load_recipe(path)
    with pytest.raises(RecipeError, match="there is no file"):
        prompt_set(mine.prompts)
    (tmp_path / "mine.yaml").write_text('judge:\n  sts: "weigh {task_type}: {task}\\n{candidates}"\n')
    assert prompt_set(mine.prompts).judge("sts", "fish", ["a", "b"]).startswith("weigh sts: fish")
    for task_type in TOPIC_TYPES:
        same = external_digest(mine, "prompt:judge", task_type) == external_digest(plain, "prompt:judge", task_type)
        assert same == (task_type != "sts")
    (tmp_path / "mine.yaml").write_text("judge:\n  sts: 3\n  sts: 4\n")
    with pytest.raises(RecipeError, match=r"prompts\.file: .*mine\.yaml"):
        prompt_set(mine.prompts)


def test_a_recipe_with_the_older_threshold_of_agreement_still_loads_with_a_warning() -> None:
    data = tiny_data()
    data["checks"] = {**data["checks"], "judge_consistent_min": 0.5}
    with pytest.warns(
        FutureWarning, match=r"judge_consistent_min is no longer read: set checks\.judge_contradictions_max"
    ):
        recipe = parse_recipe(data, RECIPES / "tiny.yaml")
    assert not hasattr(recipe.checks, "judge_consistent_min")


def test_rows_wanted_are_those_of_the_stages_of_the_recipe() -> None:
    recipe = tiny_recipe()
    assert set(recipe.rows_wanted("sts")) == {"seed_data", "junior_data", "senior_data"}
    alone = tiny_recipe(final_triplets__source="seed_data", mteb_scores__baselines=[])
    assert set(alone.rows_wanted("sts")) == {"seed_data"}


@pytest.mark.parametrize(
    "url",
    ["http://user:sk-planted-1@host/v1", "https://host/v1?api_key=sk-planted-1", "https://sk-planted-1@host/v1",
     "ftp://host/sk-planted-1", "sk-planted-1", "http://[::sk-planted-1", "https://host:99999/sk-planted-1"],
)  # fmt: skip
def test_an_endpoint_holds_no_secret_and_its_error_shows_none(url: str) -> None:
    teacher = tiny_data()["teacher"] | {"engine": "openai"}
    for changes in (
        {"teacher": teacher | {"endpoint": url}},
        {"teacher": teacher | {"endpoint": "https://host/v1", "key_variable": "sk-planted-1"}},
        {"teacher": teacher | {"endpoint": "https://host/v1", "dialect": {"headers": {"X-Key": "sk-planted-1"}}}},
        {"generator__engine": "vllm_server", "generator__endpoint": url},
    ):
        with pytest.raises(RecipeError) as caught:
            tiny_recipe(**changes)
        assert "sk-planted-1" not in str(caught.value)


def test_what_is_known_of_a_teacher_is_in_old_fingerprints_as_it_was() -> None:
    plain = tiny_recipe()
    spelled = tiny_recipe(teacher=plain.teacher.model_dump() | {"dialect": {"seed": False, "headers": {"X-A": "A"}}})
    shaped = tiny_recipe(teacher=plain.teacher.model_dump() | {"dialect": {"extra": {"reasoning_effort": "low"}}})
    stage = plain.graph()["seed_data"]
    assert not {"dialect", "non_answers"} & set(plain.part(stage)["teacher"])
    assert spelled.part(stage) == plain.part(stage)
    assert shaped.part(stage) != plain.part(stage)
    with pytest.raises(RecipeError, match="no request can carry"):
        tiny_recipe(teacher=plain.teacher.model_dump() | {"dialect": {"extra": {"day": date(2026, 1, 1)}}})
    for ours in ({"extra": {"messages": []}}, {"extra": {"max_tokens": 5}}):
        with pytest.raises(RecipeError, match="is a field that other settings say"):
            tiny_recipe(teacher=plain.teacher.model_dump() | {"dialect": ours})


def test_what_a_release_tells_names_no_place_of_this_machine(tmp_path: Path) -> None:
    recipe = load_recipe(write_recipe(tmp_path, tiny_data()))
    told = str(recipe.published())
    assert str(tmp_path) not in told
    assert str(PROJECT) not in told
    assert "topics.txt" in told


# What a stage may read


def test_recipe_view_has_the_types_of_the_recipe() -> None:
    """mypy finds a misspelt field of a section only if the view has the section's type."""
    view = get_type_hints(RecipeView)
    sections = {name: field.annotation for name, field in Recipe.model_fields.items()}
    for name, kind in sections.items():
        if name in ("calls", "money", "study"):
            assert name not in view, "no stage reads these"
        else:
            assert view.pop(name) in (kind, *get_args(kind)), name
    assert set(view) == {"rows_wanted"}


def test_the_function_of_a_stage_names_the_type_of_its_own_section() -> None:
    view = get_type_hints(RecipeView)
    for name, function in FUNCTIONS.items():
        (own,) = get_args(get_type_hints(function)["run"])
        assert own is view.get(name, type(None)), name


def test_a_stage_reads_only_the_sections_that_its_line_lists() -> None:
    recipe = tiny_recipe()
    nothing: Any = None
    for stage in recipe.graph().values():
        run = StageRun.of(
            recipe, stage, None, inputs={}, out=nothing, store=nothing, runner=nothing, teacher=nothing,
            context=nothing, progress=nothing,
        )  # fmt: skip
        listed = {*stage.reads, stage.name} & set(Recipe.model_fields)
        assert listed == {name for name in Recipe.model_fields if _readable(run.recipe, name)}
        assert set(stage.unfingerprinted) == {
            name for name in Recipe.model_fields if _readable(run.unfingerprinted, name)
        }
        assert not set(stage.unfingerprinted) & listed


def _readable(view: RecipeView, section: str) -> bool:
    return hasattr(view, section)


def test_too_few_topics_end_every_run_that_refuses_them_whatever_is_cached(tmp_path: Path) -> None:
    crowded = {"topics__rows_per_prompt_max": 1.0, "senior_data__rows__sts": 100_000}
    for refuse in (True, False):
        recipe = tiny_recipe(**crowded, topics__refuse=refuse)
        resource = build_defs(recipe, tmp_path).resources["artifacts"]
        context = build_init_resource_context(resources={"recipe": recipe})
        if refuse:
            with pytest.raises(RecipeError, match="too few topics, and topics"):
                resource.resource_fn(context)
        else:
            assert resource.resource_fn(context).recipe == recipe


def test_one_text_is_a_list_of_one_where_a_list_of_texts_is_asked_for() -> None:
    corpus = Corpus.model_validate({"path": ".", "columns": {"text": "abstract"}, "forget": "a.md"})
    assert corpus == Corpus.model_validate({"path": ".", "columns": {"text": ["abstract"]}, "forget": ["a.md"]})
    assert (corpus.columns.text, corpus.forget) == (("abstract",), ("a.md",))
    with pytest.raises(ValueError, match=r"columns\.text"):
        Corpus.model_validate({"path": ".", "columns": {"text": 5}})
