"""`import speed_assets`: a dozen documented names, imported when they are first used."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import speed_assets
from resources.compute.cluster import ClusterError
from resources.compute.runner import WorkerFailed
from resources.ledger.calls import CapReached, TeacherUnavailable
from resources.ledger.database import LedgerError
from resources.store.artifacts import NotMaterialized
from resources.store.store import StoreError
from speed_assets.orchestration.study import StudyError
from speed_assets.recipe import PROJECT, RecipeError
from tests.support.tiny import tiny_recipe

HEAVY = {"torch", "transformers", "trl", "sentence_transformers", "mteb", "dagster", "polars", "numpy", "pydantic"}


@pytest.mark.parametrize("name", [name for name in speed_assets.__all__ if name != "__version__"])
def test_every_public_name_is_there_and_documented(name: str) -> None:
    thing = getattr(speed_assets, name)
    text = inspect.getdoc(thing) or ""
    assert text, name
    if inspect.isfunction(thing):
        parameters = [p for p in inspect.signature(thing).parameters.values() if p.kind is not p.VAR_KEYWORD]
        assert "Args:" in text, name
        for parameter in parameters:
            assert f"{parameter.name}:" in text, f"{name}: {parameter.name}"
        assert "Returns:" in text, name


def test_the_import_is_fast_and_imports_nothing_heavy() -> None:
    code = "import sys, time; t = time.process_time(); import speed_assets; print(time.process_time() - t); print(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=PROJECT, check=True)
    seconds, modules = result.stdout.split("\n", 1)
    assert float(seconds) < 0.2
    assert not HEAVY.intersection(modules.split())


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nonsense'"):
        speed_assets.nonsense  # noqa: B018
    assert set(speed_assets.__all__) <= set(dir(speed_assets))
    assert speed_assets.__version__[0].isdigit()
    assert (Path(speed_assets.__file__).parent / "py.typed").exists()


@pytest.mark.parametrize(
    "error",
    [RecipeError, StoreError, LedgerError, CapReached, TeacherUnavailable, ClusterError, WorkerFailed, StudyError, NotMaterialized],
)  # fmt: skip
def test_errors_have_one_base(error: type[Exception]) -> None:
    assert issubclass(error, speed_assets.SpeedError)


def test_a_set_of_one_string_is_refused_instead_of_read_by_letters() -> None:
    with pytest.raises(TypeError, match="the texts of 'b' are one string"):
        speed_assets.contamination(["a text"], {"a": ["a"], "b": "a text"})


def test_contamination_finds_copies() -> None:
    question = "which river flows through the old town of the city before it meets the sea in the west"
    found = speed_assets.contamination([question, "nothing of the kind"], {"Quiz": [question]})
    assert found.rows() == [("Quiz", "exact"), (None, None)]


def test_near_duplicates_name_the_text_that_stays() -> None:
    text = "which river flows through the old town of the city before it meets the sea in the west"
    texts = [text, "the harbour is closed in winter and opens again when the ice has gone", text.upper(), text]
    assert speed_assets.near_duplicates(texts)["repeats"].to_list() == [None, None, 0, 0]
    assert speed_assets.near_duplicates(texts, quality=[0, 0, 2, 1])["repeats"].to_list() == [2, None, None, 2]
    assert speed_assets.near_duplicates([]).height == 0


def test_two_models_are_compared_on_the_same_samples() -> None:
    theirs = [n % 2 for n in range(400)]
    better = speed_assets.compare([min(1, score + (n % 10 == 0)) for n, score in enumerate(theirs)], theirs)
    assert better.value == pytest.approx(0.1)
    low, high = better.interval(0.05)
    assert 0.06 < low < 0.1 < high < 0.14
    assert better.p_above(0) < 0.01
    assert speed_assets.compare(theirs, theirs).interval(0.05) == (0, 0)
    with pytest.raises(ValueError, match="2 and 3 scores"):
        speed_assets.compare([0, 1], [0, 1, 1])


def test_planning_in_one_home_redirects_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPEED_HOME", "elsewhere")
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    before = dict(os.environ)
    assert json.dumps(speed_assets.plan(tiny_recipe(), tmp_path).as_json())
    assert dict(os.environ) == before
    assert not list((tmp_path / "artifacts").rglob("artifact.json")), "a plan makes no artifact"
