"""Studies: which recipes the arms are, what they cost, how they are compared, and one study from end to end."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from benchmarks.headline import headline, headline_recipe
from resources.ledger.ledger import Ledger
from resources.store.artifacts import Artifacts
from resources.store.store import Store
from speed_assets.domain.statistics import Part
from speed_assets.domain.task_types import TOPIC_TYPES
from speed_assets.orchestration import runs, study, study_arms, study_report
from speed_assets.orchestration.doctor import Finding, in_words
from speed_assets.orchestration.plan import plan
from speed_assets.orchestration.staleness import Instance
from speed_assets.recipe import Checks, PerTaskType, Recipe, RecipeError, load_recipe
from tests.support.tiny import ROWS, tiny_recipe

FEW = {name: rows // 2 for name, rows in ROWS.items()}


def small(**changes: Any) -> Recipe:
    return tiny_recipe(
        **{
            "study": {"seeds": [3], "teacher_multiples": [1], "ablation_share": 0.5, "scaling": [0.5, 0.75]},
            **changes,
        }
    )


# Arms


def test_arms_leave_out_what_they_are_named_after_and_nothing_else() -> None:
    recipe = small()
    arms = study_arms.arms(recipe, seed=7)
    assert list(arms) == ["speed", "speed_0.75", "speed_0.5", "no_revisor", "no_dpo", "junior_only"]
    whole = set(arms["speed"].graph())
    assert whole == set(tiny_recipe(mteb_scores__baselines=[], embedding_reruns={"count": 0}).graph())
    assert whole - set(arms["no_revisor"].graph()) == {"revised_data", "revisor_model", "revision_data"}
    assert whole - set(arms["no_dpo"].graph()) == {"senior_model", "preference_pairs"}
    assert set(arms["junior_only"].graph()) == set(arms["no_dpo"].graph()) & set(arms["no_revisor"].graph()) - {
        "junior_data"
    }
    kept = {"seed", "mteb_scores", "embedding_reruns", "checks", "senior_data", "final_triplets"}
    for name, arm in arms.items():
        assert arm.seed == 7
        for section in set(Recipe.model_fields) - kept:
            assert getattr(arm, section) == getattr(recipe, section), (name, section)
    assert arms["no_dpo"].senior_data.rows == arms["speed_0.5"].senior_data.rows  # type: ignore[union-attr]


def test_what_distillation_is_worth_is_an_arm() -> None:
    alone = {"seeds": [3], "teacher_multiples": [], "ablations": ["no_distil"], "ablation_share": 0.5, "scaling": []}
    with pytest.raises(RecipeError, match="learns from no other model"):
        study_arms.arms(small(study=alone), 7)
    mined = {
        "embedder": {"model": "org/larger", "revision": "a" * 40},
        "task_types": ["matching_short"],
        "doubts_max": 0,
    }
    recipe = small(
        study=alone,
        mined_negatives={**mined, "sampling": {"temperature": 0.0, "max_new_tokens": 50}},
        embedding_model__distil={"weight": 0.5},
    )
    arms = study_arms.arms(recipe, 7)
    assert list(arms) == ["speed", "speed_0.5", "no_distil"]
    with_it, without = arms["speed_0.5"], arms["no_distil"]
    assert with_it.embedding_model.distil is not None
    assert without.embedding_model.distil is None
    differ = {name for name, stage in with_it.graph().items() if with_it.part(stage) != without.part(stage)}
    assert differ <= {"embedding_model", "mteb_scores", "release"}
    assert "embedding_model" in differ


def test_the_teacher_alone_brainstorms_the_topics_that_are_written_about() -> None:
    speed = study_arms.arms(small(), 1)["speed"]
    alone = study_arms.teacher_only(speed, 100)
    assert not any(stage.kind == "model" and name != "embedding_model" for name, stage in alone.graph().items())
    assert alone.seed_data.rows.total() == 100
    assert alone.topics.alignment is None
    assert "row_verdicts" not in alone.graph(), "verdicts are calls, and all of its calls are rows"
    assert alone.final_triplets.scores == speed.final_triplets.scores.model_copy(update={"calibration": None})


@pytest.mark.parametrize("total", [0, 1, 7, 99, 1810, 37_711])
def test_rows_are_apportioned_exactly(total: int) -> None:
    proportions = {"classification": 800, "retrieval": 800, "sts": 800, "matching_short": 120, "matching_long": 120}
    found = study_arms.apportion(total, PerTaskType(**proportions))
    assert found.total() == total
    for name in TOPIC_TYPES:
        assert abs(getattr(found, name) - total * proportions[name] / 2640) < 1


def test_an_arm_counts_its_calls_in_full_whoever_asked_first() -> None:
    """Shared artifacts count for each arm that is made of them, and answers from the ledger as much as new ones."""

    class Made:
        """Artifacts of an arm, each of which took 2 new answers and 40 from the ledger."""

        def __init__(self, arm: Recipe) -> None:
            self.graph = arm.graph()

        def get(self, asset: str, partition: str | None) -> Any:
            if asset == "task_list" and partition == "sts":
                return SimpleNamespace(metadata={})  # topics are the tasks, and nobody is asked
            return SimpleNamespace(metadata={"teacher_calls": 2, "reused_calls": 40, "refused_calls": 1})

    calls = {
        name: study.calls_behind(Made(arm), "mteb_scores") / 42 for name, arm in study_arms.arms(small(), 1).items()
    }  # type: ignore[arg-type]
    assert calls == {
        "speed": 4 + 4 * 5,  # task_list of four types; seeds, pairs, revisions and verdicts of five
        "speed_0.75": 4 + 4 * 5,
        "speed_0.5": 4 + 4 * 5,
        "no_revisor": 4 + 3 * 5,
        "no_dpo": 4 + 3 * 5,
        "junior_only": 4 + 2 * 5,
    }


def test_a_recipe_without_the_whole_loop_is_not_studied() -> None:
    recipe = load_recipe("teacher_only")
    with pytest.raises(RecipeError, match="leaves out a part of the loop"):
        study_arms.arms(recipe, 1)
    with pytest.raises(RecipeError, match="leaves out a part of the loop"):
        study_arms.arms(small(senior_data__writer="junior_model", mteb_scores__baselines=[]), 1)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"seeds": [1, 1]}, "names one twice"),
        ({"scaling": [1.0]}, "less than 1"),
        ({"seeds": []}, "at least 1 item"),
        ({"resamples": 100}, "at least 200"),
        ({"ablations": ["no_teacher"]}, "study.ablations.0"),
    ],
)
def test_settings_that_make_no_study_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(RecipeError, match=words):
        tiny_recipe(study=settings)


def test_waived_checks_let_everything_pass() -> None:
    for name, value in Checks.waived():
        if name not in ("superior", "non_inferior", "own_evaluation"):
            lowest = -1e6 if name == "loss_drop_min" else -1 if name.startswith(("gain_", "reward_")) else 0
            assert value == (1 if name.endswith("_max") else lowest), name
    assert Checks.waived().superior.over == ()
    assert Checks.waived().own_evaluation is None
    assert "".startswith(*Checks.waived().non_inferior.waived)


def test_arms_are_compared_whatever_their_rows_share() -> None:
    assert not any(arm.topics.refuse for arm in study_arms.arms(tiny_recipe(topics__refuse=True), 1).values())


def test_a_study_is_in_no_fingerprint() -> None:
    one, other = tiny_recipe(), small()
    assert one.digest() == other.digest()
    assert all("study" not in one.part(stage) for stage in one.graph().values())


# Reports


def made_up(level: float, seed: int, calls: int = 100, rows: int = 100, samples: bool = True) -> study_arms.Result:
    """A result on two tasks; what its seed does, it does to every arm."""
    rng = np.random.default_rng(seed)
    hard, noise = rng.normal(0, 0.1, (2, 200)), np.random.default_rng([seed, rows, calls]).normal(0, 0.02, (2, 200))
    scores = level + rng.normal(0, 0.1) + hard + noise
    names = tuple(map(str, range(200)))
    found = {f"task {i}": {"test": Part("mean", names, score=of)} for i, of in enumerate(scores)}
    means = {task: float(part["test"].score.mean()) for task, part in found.items()}  # type: ignore[union-attr]
    return study_arms.Result(calls, rows, 0.9, means, found if samples else {})


LEVELS = {
    "speed": (0.6, 100, 800),
    "speed_0.75": (0.579, 100, 600),
    "speed_0.5": (0.55, 100, 400),
    "no_revisor": (0.55, 90, 400),
    "no_dpo": (0.50, 80, 401),
    "junior_only": (0.45, 50, 402),
    "teacher_n": (0.40, 100, 90),
    "teacher_11n": (0.62, 1100, 1000),
}
MULTIPLES = {"study": {"teacher_multiples": [1, 11], "ablation_share": 0.5, "scaling": [0.5, 0.75]}}


def results(seeds: range, samples: bool = True) -> dict[str, list[study_arms.Result]]:
    return {
        name: [made_up(level, seed, calls, rows, samples) for seed in seeds]
        for name, (level, calls, rows) in LEVELS.items()
    }


@pytest.fixture(scope="module")
def summary() -> dict[str, Any]:
    return study_report.summarize(small(**MULTIPLES), range(5), results(range(5)))


def test_planted_differences_are_found_and_what_is_alike_is_not_distinguished(summary: dict[str, Any]) -> None:
    found = {line["against"]: line for line in summary["comparisons"]}
    assert list(found) == ["teacher_n", "teacher_11n", "no_revisor", "no_dpo", "junior_only"]
    for name, planted in (("teacher_n", 0.2), ("teacher_11n", -0.02), ("no_dpo", 0.05), ("junior_only", 0.1)):
        line = found[name]
        assert line["low"] < planted < line["high"], name
        assert line["difference"] == pytest.approx(planted, abs=0.01)
        assert line["p"] <= line["p_adjusted"] < 0.05, name
    assert found["no_revisor"]["low"] < 0 < found["no_revisor"]["high"]
    assert found["no_revisor"]["p"] > 0.05
    assert [found[n]["arm"] for n in ("teacher_n", "no_dpo")] == ["speed", "speed_0.5"]
    assert {line["task"] for line in found["teacher_n"]["tasks"]} == {"task 0", "task 1"}
    assert all(line["verdict"] == "better" for line in found["teacher_n"]["tasks"])


def test_intervals_of_arms_hold_what_seeds_do_and_those_of_differences_do_not(summary: dict[str, Any]) -> None:
    arm, line = summary["arms"]["speed"], summary["comparisons"][0]
    assert arm["high"] - arm["low"] > 5 * (line["high"] - line["low"]), "seeds differ by 0.1, pairs by next to nothing"
    assert arm["low"] < arm["score"] < arm["high"]


def test_the_law_is_fitted_to_the_sizes_of_the_whole_loop(summary: dict[str, Any]) -> None:
    law = summary["scaling"]
    assert law["arms"] == ["speed_0.5", "speed_0.75", "speed"]
    assert law["low"] < 0.05 < law["high"]
    assert law["per_doubling"] == pytest.approx(0.05, abs=0.01)


def test_without_samples_seeds_alone_tell(summary: dict[str, Any]) -> None:
    bare = study_report.summarize(small(**MULTIPLES), range(5), results(range(5), samples=False))
    ours, theirs = bare["comparisons"][0], summary["comparisons"][0]
    assert ours["difference"] == pytest.approx(theirs["difference"], abs=1e-4)
    assert 0 < ours["high"] - ours["low"] < theirs["high"] - theirs["low"]


def test_table_and_plot_show_every_arm(summary: dict[str, Any], tmp_path: Path) -> None:
    text = study_report.table(summary)
    lines = {line.split("|")[1].strip(" `"): line for line in text.splitlines() if line.startswith("| `")}
    assert list(lines) == list(LEVELS)
    assert "(`speed_0.5`)" in lines["no_dpo"]
    assert "1,100" in lines["teacher_11n"]
    assert "for each doubling of rows" in text
    study_report.plot(summary, tmp_path / "study.png")
    assert (tmp_path / "study.png").read_bytes().startswith(b"\x89PNG")
    json.dumps(summary)


def test_one_seed_and_few_arms_make_a_report_too(tmp_path: Path) -> None:
    recipe = small(study={"teacher_multiples": [], "ablations": [], "scaling": []})
    summary = study_report.summarize(recipe, [1], {"speed": results(range(1))["speed"]})
    assert (summary["comparisons"], summary["scaling"]) == ([], None)
    assert summary["arms"]["speed"]["low"] is None
    study_report.plot(summary, tmp_path / "study.png")
    assert "`speed`" in study_report.table(summary)


def test_the_headline_names_what_it_compares(summary: dict[str, Any]) -> None:
    told = headline(summary, 1.0)
    assert (told["speed_n"], told["teacher_n"]) == (
        summary["arms"]["speed"]["score"],
        summary["arms"]["teacher_n"]["score"],
    )
    assert told["p"] < 0.05
    assert told["over_teacher_11n"]["difference"] < 0, "SPEED is below 11 N here, and it says so"


def test_the_headlines_quarter_is_the_offline_recipe() -> None:
    offline = load_recipe("offline")
    arms = study_arms.arms(headline_recipe(offline), 1)
    assert arms["speed_0.25"].senior_data == offline.senior_data
    assert [name for name in arms if name.startswith("speed")] == ["speed", "speed_0.5", "speed_0.25", "speed_0.125"]


# From end to end


@pytest.mark.faults
def test_a_study_shares_what_arms_have_in_common_counts_and_is_not_made_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = small(
        study={
            "seeds": [3],
            "teacher_multiples": [1],
            "ablations": ["junior_only"],
            "ablation_share": 0.5,
            "scaling": [0.5, 0.75],
            "alike": "steps",
        },
        seed_data__rows=FEW,
        junior_data__prompts=FEW,
        preference_pairs__prompts=FEW,
        revision_data__rows=FEW,
        embedding_model__epochs=2,
        evaluation__microworld={"topics": 8, "rows": 50},
    )
    planned = {name: plan(arm, tmp_path).as_json()["calls"] for name, arm in study_arms.arms(recipe, 3).items()}
    lines: list[str] = []
    summary = study.study(recipe, tmp_path, say=lines.append)
    arms = summary["arms"]
    assert {name: arm["calls"] for name, arm in arms.items() if name != "teacher_n"} == planned
    assert summary["n"] == planned["speed"] >= planned["speed_0.5"], "fewer rows are about fewer topics"
    assert arms["teacher_n"]["calls"] == planned["speed"], "the same number of calls, brainstorming included"
    judged = sum(2 * rows for rows in FEW.values()) + sum(FEW.values())
    assert planned["junior_only"] <= planned["speed_0.5"] - judged, "neither judged nor revised"
    assert Ledger.at(tmp_path).count() < planned["speed"] + arms["teacher_n"]["calls"], "what is shared is asked once"
    assert [line for line in lines if line.startswith("made   junior_model")], "made once"
    assert sum(line.startswith("made   junior_model") for line in lines) == 1
    smaller = Artifacts(study_arms.arms(recipe, 3)["speed_0.5"], Store(tmp_path))
    taken = [smaller.get("senior_data", task_type).metadata for task_type in ROWS]
    assert sum(m["generated_rows"] for m in taken) == 0, "a larger arm has written these rows"
    epochs = {
        m["lineage"]["recipe"]["embedding_model"]["epochs"] for m in Store(tmp_path).manifests("embedding_model", None)
    }
    assert len(epochs) == len(arms), "every arm is trained for as many steps"
    assert [c["against"] for c in summary["comparisons"]] == ["teacher_n", "junior_only"]
    folder = Path(summary["folder"])
    assert {file.name for file in folder.iterdir()} == {"study.json", "study.md", "study.png"}
    assert folder.is_relative_to(tmp_path / "studies")

    monkeypatch.setattr(runs, "run", lambda *_args, **_kwargs: pytest.fail("everything was there"))
    assert study.study(recipe, tmp_path) == summary


def test_a_failed_arm_is_named_and_its_run_begins_with_what_was_checked(tmp_path: Path) -> None:
    recipe = small(money={"run": {"calls": 3}})
    found = [Finding("home", "ok", "writable"), Finding("clock", "warning", "is behind", "set it")]
    with pytest.raises(study.StudyError, match=r"speed, seed 3: .*money\.run\.calls"):
        study.study(recipe, tmp_path, findings=found)
    instance = Instance.of(tmp_path).dagster
    log = instance.all_logs(instance.get_runs(limit=1)[0].run_id)
    lines = [(entry.level, entry.user_message) for entry in log if entry.user_message.startswith("doctor: ")]
    assert lines == [(20, f"doctor: ok: {in_words(found[0])}"), (30, f"doctor: warning: {in_words(found[1])}")]
