"""Prompts of recipes that draw languages say them; those of other recipes are as they were."""

from __future__ import annotations

import pytest

from speed_assets.domain.attributes import draw_attributes
from speed_assets.domain.fingerprints import digest
from speed_assets.domain.prompts import PROMPT_KINDS, PromptSet
from speed_assets.domain.row_languages import Drawn
from speed_assets.domain.task_types import GIVEN_TEXT_TYPES, TASK_TYPES, TOPIC_TYPES

SETS = ("full", "compact")
SAID = Drawn("de", "ja").names()
WITHOUT_LANGUAGES = {
    "full": "df795acc49854a7aa821a8e0174d1ac0406f5c077c46d2fe309d7cc9d33169b0",
    "compact": "c16db586d55adf21774892b2d0ada121a9f21b18b9bac5e8bfaa06953a3d76ea",
}
"""Digests of all prompts of a set, as they were before there were languages."""


def all_digests(prompts: PromptSet) -> dict[tuple[str, str], str]:
    return {
        (kind, name): prompts.digest(kind, name)
        for kind in PROMPT_KINDS
        for name in TASK_TYPES
        if name in prompts.templates[kind]
    }


def before(name: str) -> bool:
    """Whether a task type was there before there were languages."""
    return name not in GIVEN_TEXT_TYPES


@pytest.mark.parametrize("name", SETS)
def test_prompts_without_languages_are_as_they_were(name: str) -> None:
    prompts = PromptSet.load(name)
    found = [[kind, task_type, one] for (kind, task_type), one in all_digests(prompts).items() if before(task_type)]
    assert digest([*found, prompts.expansion_digest()]) == WITHOUT_LANGUAGES[name]
    assert not prompts.multilingual


@pytest.mark.parametrize("name", SETS)
def test_only_prompts_of_texts_and_their_readers_differ(name: str) -> None:
    plain, spoken = (all_digests(PromptSet.load(name, multilingual)) for multilingual in (False, True))
    changed = {key for key in plain if plain[key] != spoken[key]}
    assert not {kind for kind, _ in changed} & {"brainstorm"}, "tasks stay as they are"
    assert {("synthesis", name) for name in TASK_TYPES if name != "grounded_classification"} <= changed
    assert ("synthesis", "grounded_classification") not in changed, "labels are spelt as in the task"
    assert {(kind, name) for kind in ("judge", "revise") for name in TOPIC_TYPES} <= changed


@pytest.mark.parametrize("name", SETS)
@pytest.mark.parametrize("task_type", TOPIC_TYPES)
def test_a_prompt_says_the_languages_of_its_texts_and_no_other(name: str, task_type: str) -> None:
    prompts = PromptSet.load(name, multilingual=True)
    text = prompts.synthesis(task_type, "cost of violins", draw_attributes(task_type, 1), SAID)
    assert "German" in text
    assert ("Japanese" in text) == (task_type != "classification"), "labels are spelt as in the task"
    assert "English" not in text
    assert "{" not in text.replace("{}", "")
    for shown in (
        prompts.judge(task_type, "cost of violins", ["a", "b"], text),
        prompts.revise(task_type, "cost of violins", "draft", text),
    ):
        assert "in German" in shown
        assert name == "compact" or "also in language" in shown


@pytest.mark.parametrize("name", SETS)
def test_a_query_may_be_in_the_language_of_its_passage(name: str) -> None:
    prompts = PromptSet.load(name, multilingual=True)
    same = prompts.grounded("task", "Der Kessel.", "a question", "a nurse", Drawn(None, None).names())
    assert "in the language of the passage" in same
    assert "in German" in prompts.grounded("task", "Der Kessel.", "a question", "a nurse", Drawn("de", None).names())


def test_languages_are_not_forgotten() -> None:
    prompts = PromptSet.load("full", multilingual=True)
    with pytest.raises(ValueError, match="draw them for the row"):
        prompts.synthesis("sts", "violins", draw_attributes("sts", 1))
    mine = {"synthesis": {"retrieval": "Write for {task}, keys {keys}, a query in {query_language}."}}
    with pytest.raises(ValueError, match=r"synthesis retrieval must name \{document_language\}, as the recipe draws"):
        prompts.reworded(mine)
    with pytest.raises(ValueError, match=r"names \['query_language'\], known are"):
        PromptSet.load("full").reworded(mine)
    mine["synthesis"]["retrieval"] += " Documents in {document_language}."
    text = prompts.reworded(mine).synthesis("retrieval", "violins", draw_attributes("retrieval", 1), SAID)
    assert text.endswith("a query in German. Documents in Japanese.")
