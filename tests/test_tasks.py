"""Tasks and topic trees with a teacher that answers as a test says: what is checked, asked again, rejected and counted."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any, cast

import polars as pl
import pytest

from resources.inputs.enough_topics import crowded_prompt_warnings, crowded_prompts, topic_counts
from resources.ledger.calls import CallContext, TeacherAnswer, TeacherRequest
from resources.ledger.ledger import Ledger
from resources.store.artifacts import Artifacts
from resources.store.store import Store
from resources.teacher.teacher import Teacher
from speed_assets.assets.stage import make
from speed_assets.build import FUNCTIONS, build_defs
from speed_assets.domain.attributes import combinations, draw_attributes, rows_per_prompt, tasks_needed
from speed_assets.domain.prompts import PromptSet
from speed_assets.domain.task_types import TASK_TYPES, TOPIC_TYPES
from speed_assets.domain.topic_growth import TopicNode, TopicTree, compared_words, expansion_calls, parents_to_expand
from speed_assets.orchestration.plan import plan
from speed_assets.recipe import Recipe, RecipeError, load_recipe
from tests.support.scripted import TOPICS, Scripted, full_recipe
from tests.support.tiny import tiny_recipe


def made(home: Path, recipe: Recipe, teacher: Scripted, *names: str, partition: str | None = None) -> Any:
    """The artifact of the last of these stages, each made in order."""
    artifacts = Artifacts(recipe, Store(home).open())
    asks = Teacher(recipe, Ledger.at(home), teacher)
    artifact = None
    for name in names:
        stage = artifacts.graph[name]
        part = partition if stage.partitioned else None
        context = CallContext("run", name, part)
        artifact, _ = make(stage, FUNCTIONS[name], part, artifacts, cast(Any, None), asks, context, lambda *_: None)
    return artifact


def topic_of(request: TeacherRequest) -> str:
    return request.prompt.partition("\nTopic: ")[2].partition("\n")[0]


def good_task(topic: str) -> str:
    return f"Given a question about {topic.rpartition('/')[2].lower()}, retrieve an answer that a beginner can follow."


# Tasks


@pytest.mark.parametrize("said", [False, None])
def test_a_task_that_is_none_is_asked_for_again_with_what_was_wrong(tmp_path: Path, said: bool | None) -> None:
    bad = {
        "Arts/Music/Violins": [
            "Task 1: find out what players ask about",
            "write document",
            good_task("Arts/Music/Violins"),
        ],
        "Health/Sleep": [TeacherAnswer('{"tasks": []}'), good_task("Health/Sleep")],
        "Business/Trade/Customs": ["write document"] * 3,
        "Science/Birds/Owls": [TeacherAnswer('["Given a quest', finished=said), good_task("Science/Birds/Owls")],
    }

    def answer(request: TeacherRequest) -> Any:
        text = bad[topic_of(request)][request.sample]
        return [text] if isinstance(text, str) else text

    recipe, teacher = full_recipe(tmp_path), Scripted(answer)
    artifact = made(tmp_path / "home", recipe, teacher, "topics", "task_list", partition="retrieval")
    table, aside = artifact.table(), artifact.table("quarantine")
    assert dict(table.select("topic", "task").iter_rows()) == {
        topic: good_task(topic) for topic in TOPICS if topic != "Business/Trade/Customs"
    }
    assert aside.select("reason", "raw").rows() == [("too_short", '["write document"]')]
    assert artifact.metadata["asked_again"] == [{"rows": 4, "whole": 2}, {"rows": 2, "whole": 1}]
    assert artifact.metadata["tasks_dropped"] == {"heading": 1, "too_short": 4}
    by_topic = Counter(topic_of(request) for request in teacher.asked)
    assert by_topic == {topic: len(answers) for topic, answers in bad.items()}
    again = {(topic_of(request), request.sample): request for request in teacher.asked}
    assert "it was a heading" in again["Arts/Music/Violins", 1].prompt
    assert "no list of tasks" in again["Health/Sleep", 1].prompt
    cut, more = again["Science/Birds/Owls", 0], again["Science/Birds/Owls", 1]
    assert more.prompt == cut.prompt
    assert more.parameters["max_new_tokens"] == recipe.answers.cut_growth * cut.parameters["max_new_tokens"]


def test_an_empty_answer_in_the_ledger_stops_no_later_run(tmp_path: Path) -> None:
    home = tmp_path / "home"
    once = full_recipe(tmp_path, task_list__attempts=1)
    empty = made(home, once, Scripted(lambda _: "[]"), "topics", "task_list", partition="retrieval")
    assert empty.table().is_empty()
    again = full_recipe(tmp_path, task_list__attempts=2)
    teacher = Scripted(lambda request: [good_task(topic_of(request))])
    mended = made(home, again, teacher, "topics", "task_list", partition="retrieval")
    assert mended.table().height == len(TOPICS)
    assert {request.sample for request in teacher.asked} == {1}, "first answers are known, and they were none"


def test_the_same_task_for_another_topic_is_rejected(tmp_path: Path) -> None:
    same = "Given a question of a beginner, retrieve the answers that an expert gave."
    plural = "Given questions of beginners, retrieve an answer that the experts gave!"

    def answer(request: TeacherRequest) -> list[str]:
        if topic_of(request) == TOPICS[1] and request.sample:
            return [good_task(TOPICS[1])]
        return [same if topic_of(request) == TOPICS[0] else plural]

    teacher = Scripted(answer)
    artifact = made(tmp_path / "home", full_recipe(tmp_path), teacher, "topics", "task_list", partition="retrieval")
    assert artifact.table()["task"].to_list() == [same, good_task(TOPICS[1])]
    assert set(artifact.table("quarantine")["reason"]) == {"repeats_task"}
    assert any("stands in the list of another topic" in request.prompt for request in teacher.asked)
    assert compared_words(same) == compared_words(plural)


def test_only_topics_that_a_row_will_be_about_are_brainstormed(tmp_path: Path) -> None:
    def lists(topics: list[str], **rows: int) -> tuple[Any, list[str]]:
        """The task list of a recipe that asks for few rows, and the topics that the teacher was asked for."""
        wanted = {"seed_data__rows": 4, "junior_data__prompts": 5, "senior_data__rows": 12} | rows
        few = {f"{section}__retrieval": count for section, count in wanted.items()}
        few |= {"preference_pairs__prompts__retrieval": 5, "revision_data__rows__retrieval": 5}
        teacher = Scripted(lambda request: [good_task(topic_of(request))])
        recipe = full_recipe(tmp_path, topics, **few)
        artifact = made(tmp_path / "home", recipe, teacher, "topics", "task_list", partition="retrieval")
        return artifact, [topic_of(request) for request in teacher.asked]

    topics = [f"Arts/Instruments/Kind {number}" for number in range(40)]
    first, asked = lists(topics)
    table = first.table()
    assert sorted(asked) == sorted(table["topic"])
    assert table["synthesis"].sum() == 12
    assert 5 <= table["alignment"].sum() <= 9, "the first 4 for examples and the first 5 for drafts"
    assert first.metadata["asked"] == table.height < 22
    for number in range(40, 46):  # one more topic is asked for alone, or nothing is
        more, asked = lists([*topics, f"Arts/Instruments/Kind {number}"])
        assert set(asked) <= {f"Arts/Instruments/Kind {number}"}
        assert more.table()["synthesis"].sum() == 12
    larger, asked = lists(topics, senior_data__rows=20)
    assert larger.table()["synthesis"].sum() == 20
    assert len(asked) <= 8
    assert larger.metadata["parts"]["alignment"] == first.metadata["parts"]["alignment"]
    assert larger.metadata["parts"]["synthesis"] != first.metadata["parts"]["synthesis"]


def test_a_task_type_of_which_no_row_is_wanted_is_not_in_the_graph(tmp_path: Path) -> None:
    none = {
        f"{section}__matching_long": 0
        for section in (
            "seed_data__rows",
            "junior_data__prompts",
            "preference_pairs__prompts",
            "senior_data__rows",
            "revision_data__rows",
        )
    }
    teacher = Scripted(lambda request: [good_task(topic_of(request))])
    unwanted = full_recipe(tmp_path, **none)
    kept = {"classification", "retrieval", "sts", "matching_short"}
    graph = unwanted.graph()
    assert {frozenset(stage.task_types) for stage in graph.values() if stage.partitioned} == {frozenset(kept)}
    keys = {key.to_user_string() for key in build_defs(unwanted, tmp_path).resolve_all_asset_keys()}
    assert "senior_data/retrieval" in keys
    assert not [key for key in keys if "matching_long" in key]
    assert plan(unwanted, tmp_path / "home").as_json()["make"]
    wanted = made(tmp_path / "home", full_recipe(tmp_path), teacher, "topics", "task_list", partition="matching_long")
    assert wanted.metadata["asked"] == len(TOPICS), "rows that are wanted later find no empty list"


# Topic trees

EXPAND = {"children": 10, "levels": 2, "target": 60, "sampling": {"temperature": 1.0}}


def subtopics(request: TeacherRequest) -> list[str]:
    """Ten names of the topic's own, two of which repeat others in the list."""
    name = topic_of(request).rpartition("/")[2]
    names = [f"{name} matter {letter}{letter}" for letter in "abcdefgh"]
    return [*names[:5], f"The {names[0].upper()}", "Other", *names[5:]]


def test_a_topic_list_is_grown_into_a_tree(tmp_path: Path) -> None:
    recipe, teacher = full_recipe(tmp_path, topics__expand=EXPAND), Scripted(subtopics)
    tree = made(tmp_path / "home", recipe, teacher, "topics", "topic_tree")
    rows, aside = tree.table(), tree.table("quarantine")
    assert 56 <= rows.height <= 60
    assert rows["topic"].head(4).to_list() == list(TOPICS)
    assert rows["topic_id"].is_unique().all()
    level_1 = rows.filter(pl.col("path").is_in([f"{topic}/{topic.rpartition('/')[2]} matter aa" for topic in TOPICS]))
    assert level_1.height == 4
    assert {"collective_name", "repeats_sibling"} <= set(aside["reason"])
    assert rows.filter(pl.col("path").str.count_matches("/") > 3)["topic"].str.count_matches("/").max() == 3
    assert tree.metadata["asked"] == rows.height + aside.height
    assert tree.metadata["levels"][0] == {"asked": 4, "new": 32}
    # A new topic asks for its own children, and for as many of theirs as it displaces.
    more = full_recipe(tmp_path, [*TOPICS, "Games/Chess"], topics__expand={**EXPAND, "levels": 1, "target": 1000})
    fewer = full_recipe(tmp_path, topics__expand={**EXPAND, "levels": 1, "target": 1000})
    made(tmp_path / "home", fewer, teacher, "topics", "topic_tree")
    (tmp_path / "topics.txt").write_text("\n".join([*TOPICS, "Games/Chess"]))
    late = Scripted(subtopics)
    made(tmp_path / "home", more, late, "topics", "topic_tree")
    assert {topic_of(request) for request in late.asked} == {"Games/Chess"}


def test_few_new_subtopics_are_asked_for_again_with_those_that_are_there(tmp_path: Path) -> None:
    def answer(request: TeacherRequest) -> Any:
        if topic_of(request) == TOPICS[0]:
            return TeacherAnswer("I cannot think of any.")
        if topic_of(request) == TOPICS[1] and not request.sample:
            return ["Naps", "Nap", "Other"]
        return subtopics(request)

    expand = {**EXPAND, "levels": 1, "attempts": 2}
    teacher = Scripted(answer)
    tree = made(tmp_path / "home", full_recipe(tmp_path, topics__expand=expand), teacher, "topics", "topic_tree")
    asked = Counter(topic_of(request) for request in teacher.asked)
    assert asked == {TOPICS[0]: 2, TOPICS[1]: 2, TOPICS[2]: 1, TOPICS[3]: 1}
    again = next(r for r in teacher.asked if topic_of(r) == TOPICS[1] and r.sample)
    assert "not to be named again: Naps\n" in again.prompt
    assert set(tree.table("quarantine").filter(pl.col("reason") == "no_subtopics")["detail"]) == {
        "attempt 1 of 2",
        "attempt 2 of 2",
    }


@pytest.mark.faults
def test_445_topics_become_50_000_and_the_plan_counts_the_calls(tmp_path: Path) -> None:
    topics = [f"Branch {i % 20}/Area {i % 89}x/Thing{i}" for i in range(445)]
    expand = {**EXPAND, "children": 12, "target": 50_000}
    rows = {"senior_data__rows__retrieval": 60_000, "senior_data__rows__matching_short": 30_000}
    recipe = full_recipe(tmp_path, topics, topics__expand=expand, **rows)
    number = iter(range(10**6))
    teacher = Scripted(lambda request: [f"Matter{next(number)} of{next(number)}" for _ in range(12)])
    tree = made(tmp_path / "home", recipe, teacher, "topics", "topic_tree")
    assert tree.table().height == 50_000
    expected, _ = expansion_calls(445, 12, 2, 50_000, 1)
    assert len(teacher.asked) == expected
    steps = {step.name: step for step in plan(recipe, tmp_path / "planned").steps}
    assert steps["topic_tree"].calls == expected
    assert steps["task_list/retrieval"].calls == 50_000
    assert 30_000 <= steps["task_list/matching_short"].calls < 30_100, (
        "no more than rows are wanted, and those of the alignment"
    )
    assert steps["task_list/sts"].calls == 0


@pytest.mark.parametrize(
    ("name", "code"),
    [
        ("1. Bows and Rosin", None),
        ("Bow and rosins", "repeats_sibling"),
        ("Violin", "repeats_parent"),
        ("Miscellaneous", "collective_name"),
        ("", "bad_name"),
        ("What is a violin?", "bad_name"),
        ("a name that has far too many words to be any heading", "bad_name"),
        ("bell\x07", "bad_name"),
        ("Concert Hall", "repeats_topic"),
        ("History", None),
    ],
)
def test_a_child_that_repeats_or_is_no_name_is_dropped(name: str, code: str | None) -> None:
    tree = TopicTree(4, 200)
    tree.add_roots(
        TopicNode(path, path)
        for path in ("Arts/Violins", "Arts/Violins/Bow and Rosin", "Arts/Oboes", "Arts/Oboes/Concert Halls")
    )
    parent = tree.nodes[0]
    if name.startswith("1."):
        tree = TopicTree(4, 200)
        tree.add_roots([parent])
    grown = tree.grow(parent, name)
    assert (grown if code else getattr(grown, "path", grown)) == (code or f"Arts/Violins/{name.removeprefix('1. ')}")


def test_which_topics_are_asked_hardly_hangs_on_the_others() -> None:
    nodes = [TopicNode(f"a/{i}", f"a/{i}") for i in range(100)]
    some = parents_to_expand(nodes, 100, 10)
    assert len(some) == 10
    more = parents_to_expand([*nodes, TopicNode("a/new", "a/new")], 100, 10)
    assert len({n.path for n in some} - {n.path for n in more}) <= 1
    assert parents_to_expand(nodes, 5000, 10) == nodes
    assert parents_to_expand(nodes, 0, 10) == []


# Rows that share a prompt


@pytest.mark.parametrize("task_type", TOPIC_TYPES)
def test_rows_per_prompt_are_those_of_real_draws(task_type: str) -> None:
    prompts = PromptSet.load("full")
    said, tasks, rows = prompts.attributes_in_prompt(task_type), 5, 1000
    assert sum(combinations(task_type, said)) == pytest.approx(1)
    drawn = set()
    for row in range(rows):
        attributes = draw_attributes(task_type, row)
        drawn.add((row % tasks, *(attributes.get(name) for name in sorted(said))))
    assert rows_per_prompt(task_type, said, tasks, rows) == pytest.approx(rows / len(drawn), rel=0.05)
    assert rows_per_prompt(task_type, said, rows, rows) == pytest.approx(1)
    needed = tasks_needed(task_type, said, rows, 2.0)
    assert rows_per_prompt(task_type, said, needed, rows) <= 2
    assert needed == 1 or rows_per_prompt(task_type, said, needed - 1, rows) > 2


def test_a_plan_warns_of_rows_that_share_a_prompt_and_refuses_where_the_recipe_says_so(tmp_path: Path) -> None:
    crowded = {"senior_data__rows__matching_short": 400}
    recipe = full_recipe(tmp_path, **crowded)
    line, *_ = plan(recipe, tmp_path / "home").warnings
    assert "senior_data/matching_short asks for 400 rows on 4 topics: 100.0 rows for each different prompt" in line
    assert "134 topics would do" in line
    with pytest.raises(RecipeError, match=r"(?s)topics\.refuse is set:\n .*134 topics would do\n.*topics\.expand"):
        crowded_prompt_warnings(full_recipe(tmp_path, **crowded, topics__refuse=True))
    grown = full_recipe(tmp_path, **crowded, topics__expand={**EXPAND, "target": 500})
    assert topic_counts(grown.topics) == {"synthesis": 444, "alignment": 444}
    assert crowded_prompts(grown) == []


def test_topics_of_the_paper_are_too_few_and_a_tree_of_them_is_not() -> None:
    paper = load_recipe("paper")
    if paper.topics.expand is None:
        assert max(place["rows_per_prompt"] for place in crowded_prompts(paper)) > 3
    assert crowded_prompt_warnings(load_recipe("offline")) == []


def test_a_tree_needs_a_prompt_for_it() -> None:
    with pytest.raises(RecipeError, match=r"topics\.expand needs a prompt for subtopics"):
        tiny_recipe(topics__expand=EXPAND)
    assert {name for name, kind in ((name, TASK_TYPES[name]) for name in TOPIC_TYPES) if not kind.has_brainstorm} == {
        "sts"
    }
