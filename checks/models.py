"""Checks on trained models: weights that load safely, and losses that fell.

Belongs here: what a model's files and its losses show. Not here: how good it is (`scores.py`).
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from statistics import fmean
from typing import Any

from safetensors import SafetensorError, safe_open

from checks.check import EXAMPLES, Check, Outcome, Subject
from resources.store.store import UNHASHED_DIR

JUDGED_ROWS = {
    "held_out": "rows that were held out",
    "training_rows": "rows of the training itself (too few to hold out enough)",
    "trained_rows": "rows of the training, in the same batches",
}
"""The rows that a training was judged on, for a sentence."""
PICKLES = frozenset({".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle", ".joblib"})
"""File types that may hold a pickle: loading one can run any code."""


def safe_weights(subject: Subject) -> Outcome:
    """At least one safetensors file, each one readable, and no file that may hold a pickle."""
    root = subject.artifact.path
    files = sorted(file for file in root.rglob("*") if file.is_file())
    weights = [file for file in files if file.suffix == ".safetensors"]
    faults = [
        {"file": _name(file, root), "problem": "may hold a pickle: save as safetensors"}
        for file in files
        if file.suffix.lower() in PICKLES
    ]
    parameters = 0
    for file in weights:
        try:
            parameters += _parameters(file)
        except (SafetensorError, OSError) as error:
            faults.append({"file": _name(file, root), "problem": f"cannot be read as safetensors: {error}"})
    metadata: dict[str, Any] = {"files": len(weights), "parameters": parameters}
    if not weights:
        return Outcome(False, "0 safetensors files, at least 1 is needed: the training saved no model", metadata)
    if faults:
        named = "; ".join(f"{fault['file']} {fault['problem']}" for fault in faults[:EXAMPLES])
        reason = f"{len(faults)} unsafe or unreadable files, 0 may be: {named}; save the model again"
        return Outcome(False, reason, {**metadata, "faults": faults})
    return Outcome(True, f"{len(weights)} safetensors files with {parameters:,} parameters, no pickles", metadata)


GIVEN = "the model was given: nothing was trained here"


def _is_given(subject: Subject) -> bool:
    return "given" in subject.artifact.metadata


def finite_losses(subject: Subject) -> Outcome:
    """Losses were logged and every one is a finite number."""
    if _is_given(subject):
        return Outcome(True, GIVEN)
    curves = _losses(subject.artifact.path)
    steps = sum(len(losses) for losses in curves.values())
    faults = [
        {"curve": name, "line": line, "loss": str(loss)}
        for name, losses in curves.items()
        for line, loss in enumerate(losses, 1)
        if not math.isfinite(loss)
    ]
    metadata: dict[str, Any] = {"logged": steps, "not_finite": len(faults)}
    if not steps:
        return Outcome(False, "0 losses were logged, at least 1 is needed: the training took no step", metadata)
    if faults:
        reason = (
            f"{len(faults)} of {steps} losses are not finite, 0 may be, the first on line {faults[0]['line']} of "
            f"{faults[0]['curve']}: lower the learning rate or look for broken rows"
        )
        return Outcome(False, reason, {**metadata, "failing_rows": faults[:EXAMPLES]})
    return Outcome(True, f"all {steps} losses are finite", metadata)


def falling_loss(subject: Subject) -> Outcome:
    """Whether the training got somewhere: by rows that were read before and after it; of several models, the one whose loss fell least.

    Trainings from before such rows were read are judged by their curve.
    """
    if _is_given(subject):
        return Outcome(True, GIVEN)
    aside = subject.artifact.path / UNHASHED_DIR
    measured = {_name(file.parent, aside): json.loads(file.read_text()) for file in sorted(aside.rglob("judged.json"))}
    if not measured:
        return _falling_curve(subject)
    model, lines = min(measured.items(), key=lambda item: _worst_first(_fall_of(item[1][0])))
    first = lines[0]
    every = [(name, line) for name, found in measured.items() for line in found]
    metadata = {
        "judged": [
            {**({"model": name} if len(measured) > 1 else {}), **{key: str(value) for key, value in line.items()}}
            for name, line in every
        ]
    }
    rows = f"{first['rows']} {JUDGED_ROWS[first['on']]}" + (f" of {model}" if len(measured) > 1 else "")
    if "reward_accuracy" in first:
        least = subject.recipe.checks.reward_accuracy_min
        passed = first["reward_accuracy"] > least
        finding = (
            f"on {rows} the chosen answer gained more than the rejected one in {first['reward_accuracy']:.1%}, and more than "
            f"{least:.1%} is required (checks.reward_accuracy_min); the mean margin is {first['reward_margin']:.4g}"
        )
    else:
        least = subject.recipe.checks.loss_drop_min
        fall = _fall_of(first)
        passed = fall >= least
        finding = (
            f"the loss went from {first['loss_before']:.4g} to {first['loss_after']:.4g} on {rows}, a fall of {fall:.1%}, "
            f"at least {least:.1%} is required (checks.loss_drop_min)"
        )
    if passed:
        return Outcome(True, finding, metadata)
    return Outcome(False, f"{finding}: change the learning rate, train longer or look at the data", metadata)


def _fall_of(judged: dict[str, Any]) -> float:
    """Relative fall of the loss of the same rows."""
    before, after = float(judged["loss_before"]), float(judged["loss_after"])
    return (before - after) / abs(before) if before else 0.0


def _worst_first(fall: float) -> float:
    """For sorting: a fall that is no number is the worst of all."""
    return -math.inf if math.isnan(fall) else fall


def enough_steps(subject: Subject) -> Outcome:
    """Optimizer steps of the training."""
    if _is_given(subject):
        return Outcome(True, GIVEN)
    least, steps = subject.recipe.checks.steps_min, sum(map(len, _losses(subject.artifact.path).values()))
    finding = f"{steps} steps, at least {least} are required (checks.steps_min)"
    if steps >= least:
        return Outcome(True, finding)
    return Outcome(False, f"{finding}: get more rows, raise epochs, or lower batch_size")


def _falling_curve(subject: Subject) -> Outcome:
    """Relative fall of the loss from the first tenth of the steps to the last; of several models, the least."""
    least = subject.recipe.checks.loss_drop_min
    falls = {name: _fall(losses) for name, losses in _losses(subject.artifact.path).items()}
    metadata = {"curves": [{"curve": name, "fall": f"{fall:.4f}"} for name, (_, _, fall) in falls.items()]}
    if not falls:
        return Outcome(False, "0 losses were logged, at least 1 is needed: the training took no step", metadata)
    # One that is no number compares as false below.
    name, (first, last, fall) = min(falls.items(), key=lambda item: _worst_first(item[1][2]))
    finding = (
        f"the loss went from {first:.4g} to {last:.4g} in {name}, a fall of {fall:.1%}, "
        f"at least {least:.1%} is required (checks.loss_drop_min)"
    )
    if fall >= least:
        return Outcome(True, finding, metadata)
    return Outcome(False, f"{finding}: change the learning rate, train longer or look at the data", metadata)


def _parameters(file: Path) -> int:
    """Number of weights in a file; the header is parsed and checked against the length, no tensor is read."""
    with safe_open(file, framework="numpy") as tensors:
        return sum(math.prod(tensors.get_slice(name).get_shape()) for name in tensors.keys())  # noqa: SIM118


def _losses(root: Path) -> dict[str, list[float]]:
    """{file: losses in the order of steps} of every non-empty `losses.jsonl` below the artifact."""
    curves = {}
    for file in sorted(root.rglob("*losses.jsonl")):
        lines = [json.loads(line) for line in file.read_text().splitlines() if line.strip()]
        losses = [math.nan if line["loss"] is None else float(line["loss"]) for line in lines]
        if losses:
            curves[_name(file, root)] = losses
    return curves


def _fall(losses: list[float]) -> tuple[float, float, float]:
    """Mean loss over the first tenth, over the last, and the relative fall between them."""
    tenth = math.ceil(len(losses) / 10)
    first, last = fmean(losses[:tenth]), fmean(losses[-tenth:])
    return first, last, (first - last) / abs(first) if first else 0.0


def _name(file: Path, root: Path) -> str:
    return file.relative_to(root).as_posix()


CHECKS: tuple[Check, ...] = tuple(
    check
    for asset in (
        "junior_model",
        "senior_model",
        "revisor_model",
        "embedding_model",
        "baseline_models",
        "embedding_reruns",
    )
    for check in (
        Check(
            asset,
            "safe_weights",
            True,
            "Weights are readable safetensors, and no file may hold a pickle.",
            safe_weights,
        ),
        Check(asset, "finite_losses", True, "Every logged loss is a finite number.", finite_losses),
        Check(
            asset,
            "falling_loss",
            True,
            "The loss fell on the same rows: of a generator, held-out ones if there are enough.",
            falling_loss,
            ("loss_drop_min", "reward_accuracy_min"),
        ),
    )
) + tuple(
    Check(asset, "enough_steps", False, "The training had enough steps.", enough_steps, ("steps_min",))
    for asset in ("junior_model", "senior_model", "revisor_model")
)
