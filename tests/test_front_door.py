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
    if inspect.isfunction(thing) and name not in OTHERS:
        parameters = [p for p in inspect.signature(thing).parameters.values() if p.kind is not p.VAR_KEYWORD]
        assert "Args:" in text, name
        for parameter in parameters:
            assert f"{parameter.name}:" in text, f"{name}: {parameter.name}"
        assert "Returns:" in text, name


OTHERS: set[str] = {"load_recipe", "near_duplicates", "compare", "build_defs"}
"""Names whose docstrings are kept where they are defined, outside the front door."""


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


def test_contamination_finds_copies() -> None:
    question = "which river flows through the old town of the city before it meets the sea in the west"
    found = speed_assets.contamination([question, "nothing of the kind"], {"Quiz": [question]})
    assert found.rows() == [("Quiz", "exact"), (None, None)]


def test_planning_in_one_home_redirects_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SPEED_HOME", "elsewhere")
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    before = dict(os.environ)
    assert json.dumps(speed_assets.plan(tiny_recipe(), tmp_path).as_json())
    assert dict(os.environ) == before
    assert not list((tmp_path / "artifacts").rglob("artifact.json")), "a plan makes no artifact"
