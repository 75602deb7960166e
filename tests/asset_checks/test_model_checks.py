"""Trained models: weights that are safe to load, losses that fall, training that helped."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from checks.registry import checks_of
from resources.store.store import UNHASHED_DIR
from tests.support.shelf import (
    Shelf,
    losses,
)


@pytest.mark.parametrize(
    ("curve", "files", "check", "reason"),
    [
        (losses(2.0, 1.0), {"training_args__bin": b"x"}, "safe_weights", "training_args.bin may hold a pickle"),
        (losses(2.0, 1.0), {"more__safetensors": b"junk"}, "safe_weights", "more.safetensors cannot be read"),
        (losses(2.0, 1.0), {"model__safetensors": b""}, "safe_weights", "model.safetensors cannot be read"),
        (losses(2.0, float("nan"), 1.0), {}, "finite_losses", "1 of 3 losses are not finite, .* on line 2"),
        (losses(2.0, float("inf")), {}, "falling_loss", "a fall of -inf%"),
        (losses(float("nan"), 1.0), {}, "falling_loss", "a fall of nan%"),
        ("", {}, "finite_losses", "0 losses were logged"),
        ("", {}, "falling_loss", "0 losses were logged"),
        (losses(2.0, 1.9), {}, "falling_loss", r"a fall of 5.0%, at least 10.0% .*loss_drop_min"),
        (losses(*[2.0] * 10, 0.1, *[1.9] * 10), {}, "falling_loss", r"from 2 to 1.9 "),
    ],
)
def test_a_bad_model_is_refused(shelf: Shelf, curve: str, files: dict[str, bytes], check: str, reason: str) -> None:
    outcome = shelf.ask(shelf.model("junior_model", curve, **files), check)
    assert not outcome.passed
    assert re.search(reason, outcome.reason), outcome.reason


SFT = {"on": "held_out", "rows": 9, "loss_before": 2.0, "loss_after": 1.5}


DPO = {
    "on": "training_rows",
    "rows": 40,
    "loss_before": 0.69,
    "loss_after": 0.5,
    "reward_accuracy": 0.75,
    "reward_margin": 0.2,
}


@pytest.mark.parametrize(
    ("told", "passed", "reason"),
    [
        ([SFT], True, r"from 2 to 1.5 on 9 rows that were held out, a fall of 25.0%, at least 10.0% .*loss_drop_min"),
        ([{**SFT, "loss_after": 1.9}], False, "a fall of 5.0%"),
        ([{**SFT, "on": "training_rows"}], True, "of the training itself"),
        ([DPO, SFT], True, "on 40 rows of the training .* in 75.0%, and more than 50.0% .*reward_accuracy_min"),
        ([{**DPO, "reward_accuracy": 0.5}], False, "in 50.0%"),
        ([{**SFT, "loss_after": float("nan")}], False, "a fall of nan%"),
    ],
)
def test_a_generator_is_judged_by_rows_before_and_after(
    shelf: Shelf, told: list[dict[str, Any]], passed: bool, reason: str
) -> None:
    artifact = shelf.model("senior_model", losses(1.0, 2.0), judged=json.dumps(told))  # single steps say nothing
    outcome = shelf.ask(artifact, "falling_loss")
    assert outcome.passed == passed
    assert re.search(reason, outcome.reason), outcome.reason


def test_of_several_embedding_models_the_one_that_fell_least_is_judged(shelf: Shelf) -> None:
    one = {"on": "trained_rows", "rows": 48, "loss_before": 2.0, "loss_after": 1.0}
    files = {
        f"{UNHASHED_DIR}/{name}/judged.json": json.dumps([{**one, "loss_after": after}]).encode()
        for name, after in (("seed_data", 1.5), ("junior_data", 1.95), ("senior_data", 0.1))
    }
    artifact = shelf.model("baseline_models", losses(1.0, 9.0))  # single steps say nothing
    for name, data in files.items():
        file = artifact.path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)
    outcome = shelf.ask(artifact, "falling_loss")
    assert not outcome.passed
    assert "from 2 to 1.95 on 48 rows of the training, in the same batches of junior_data" in outcome.reason


def test_few_steps_are_a_warning(shelf: Shelf) -> None:
    outcome = shelf.ask(shelf.model("junior_model", losses(*[1.0] * 9)), "enough_steps")
    assert not outcome.passed
    assert "9 steps, at least 10 are required (checks.steps_min)" in outcome.reason
    assert not next(check for check in checks_of("junior_model") if check.name == "enough_steps").blocking
    assert shelf.ask(shelf.model("junior_model", losses(*[1.0] * 10)), "enough_steps").passed


def test_a_cut_off_weight_file_is_refused(shelf: Shelf) -> None:
    whole = (shelf.model("junior_model").path / "model" / "model.safetensors").read_bytes()
    outcome = shelf.ask(shelf.model("junior_model", model__safetensors=whole[:-4]), "safe_weights")
    assert not outcome.passed
    assert outcome.metadata["faults"][0]["file"] == "model/model.safetensors"
