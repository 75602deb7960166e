"""What the page of a report says, as plain values.

Belongs here: sums over artifacts, by stage. Not here: parts that read tables (`sections.py`), HTML (`page.py`).
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

from checks.registry import CHECKS
from speed_assets.orchestration.report.drawing import Box, graph_svg, intervals_svg
from speed_assets.orchestration.report.sections import changes, quarantined, revisions, scores
from speed_assets.orchestration.report.subject import Subject
from speed_assets.recipe.demonstration import IN_TOY_LANGUAGE

_PLOTS = ("final_triplets", "junior_model", "senior_model", "revisor_model", "embedding_model")
"""Assets whose plots are on the page. Those of tables by task type stay on their pages in Dagster."""


def contents(subject: Subject) -> dict[str, Any]:
    """Everything that the template shows; texts of models are still as they were written."""
    stages = [_stage(subject, name) for name in subject.inputs]
    scored = scores(subject)
    gates = _outcomes(subject)
    return {
        "title": subject.title,
        "recipe": subject.recipe,
        "toy": IN_TOY_LANGUAGE if _engine(subject) == "microworld" else None,
        "decision": _decision(subject, gates),
        "figures": _figures(subject, stages, scored),
        "graph": graph_svg([_box(stage) for stage in stages], _drawn_edges(subject.inputs)),
        "stages": stages,
        "totals": _totals(stages),
        "funnel": _funnel(subject),
        "revisions": revisions(subject),
        "scores": scored,
        "intervals": intervals_svg(scored["models"]) if scored else "",
        "diversity": _diversity(subject),
        "quarantine": quarantined(subject),
        "changes": changes(subject),
        "checks": gates,
        "plots": [
            {"path": plot, "name": f"{asset}: {plot.stem}"}
            for asset in _PLOTS
            for plot in subject.plots(asset)
            if plot.stem not in ("funnel", "diversity")
        ],
        "diversity_plot": next((p for p in subject.plots("final_triplets") if p.stem == "diversity"), None),
        "of_run": subject.by_run is not None,
        "missing": subject.missing,
        "made_at": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
    }


def _engine(subject: Subject) -> str:
    return str((subject.published.get("teacher") or {}).get("engine", ""))


def _stage(subject: Subject, name: str) -> dict[str, Any]:
    """Rows, seconds, calls, tokens and money of one stage, summed over its task types; null is unknown."""
    found = [artifact.metadata for artifact in subject.of(name)]
    asks = [metadata for metadata in found if metadata.get("teacher_calls") is not None]
    currencies = {metadata.get("currency") for metadata in asks} - {None}
    return {
        "name": name,
        "kind": subject.kinds[name],
        "made": bool(found) and name not in subject.missing,
        "by_this_run": subject.by_run is not None and any(asset == name for asset, _ in subject.by_run),
        "rows": _sum(found, "rows") if found and subject.kinds[name] == "table" else None,
        "seconds": _sum(found, "seconds"),
        "calls": sum(m["teacher_calls"] + (m.get("reused_calls") or 0) for m in asks) if asks else None,
        "prompt_tokens": _sum(asks, "teacher_prompt_tokens_total"),
        "output_tokens": _sum(asks, "teacher_output_tokens_total"),
        "money": _sum(asks, "teacher_cost_total") if len(currencies) <= 1 else None,
        "asks": bool(asks),
        "currency": next(iter(currencies), None),
        "own_tokens": _sum([m for m in found if m not in asks], "output_tokens"),
    }


def _sum(found: list[Any], field: str) -> Any:
    values = [metadata.get(field) for metadata in found]
    return None if not values or None in values else sum(value for value in values if value is not None)


def _totals(stages: list[dict[str, Any]]) -> dict[str, Any]:
    asking = [stage for stage in stages if stage["asks"]]
    seconds = [stage["seconds"] for stage in stages if stage["seconds"] is not None]
    return {
        "seconds": sum(seconds),
        **{name: _sum(asking, name) for name in ("calls", "prompt_tokens", "output_tokens", "money")},
        "currency": next((stage["currency"] for stage in asking if stage["currency"]), None),
    }


def _box(stage: Mapping[str, Any]) -> Box:
    parts = []
    if stage["rows"] is not None:
        parts.append(f"{stage['rows']:,} rows")
    if stage["seconds"] is not None:
        parts.append(duration(stage["seconds"]))
    return Box(stage["name"], " · ".join(parts) if stage["made"] else "not made", stage["kind"], stage["made"])


def duration(seconds: float) -> str:
    """A time for people.

    >>> duration(0.04), duration(12.3), duration(75), duration(7300)
    ('0.0 s', '12.3 s', '1 min 15 s', '2 h 1 min')
    """
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{int(seconds // 60)} min {int(seconds % 60)} s"
    return f"{int(seconds // 3600)} h {int(seconds % 3600 // 60)} min"


def _drawn_edges(inputs: Mapping[str, tuple[str, ...]]) -> list[tuple[str, str]]:
    """Edges without those from an input that another input was made from: the rest shows the same order."""
    above: dict[str, set[str]] = {}
    for name, direct in inputs.items():  # inputs come first
        above[name] = set(direct).union(*(above[source] for source in direct))
    return [
        (source, name)
        for name, direct in inputs.items()
        for source in direct
        if not any(source in above[other] for other in direct if other != source)
    ]


def _funnel(subject: Subject) -> list[dict[str, Any]]:
    steps = [step for artifact in subject.of("final_triplets") for step in artifact.metadata.get("steps") or ()]
    most = max((step["rows_in"] for step in steps), default=0) or 1
    return [{**step, "share": step["rows_out"] / most} for step in steps]


def _diversity(subject: Subject) -> dict[str, Any] | None:
    return next((artifact.metadata.get("diversity") for artifact in subject.of("final_triplets")), None)


def _outcomes(subject: Subject) -> dict[str, Any]:
    """Outcomes of checks: failed gates, warnings, and how many passed."""
    blocking = {(check.asset, check.name): check.blocking for check in CHECKS}
    found = [
        {
            "asset": asset if partition is None else f"{asset}/{partition}",
            "check": name,
            "reason": outcome.get("reason", ""),
            "gate": blocking.get((asset, name), False),
            "passed": bool(outcome["passed"]),
        }
        for (asset, partition), outcomes in subject.outcomes.items()
        for name, outcome in outcomes.items()
    ]
    return {
        "passed": sum(outcome["passed"] for outcome in found),
        "failed": [outcome for outcome in found if not outcome["passed"] and outcome["gate"]],
        "warned": [outcome for outcome in found if not outcome["passed"] and not outcome["gate"]],
    }


def _decision(subject: Subject, gates: Mapping[str, Any]) -> dict[str, str]:
    if subject.release is not None:
        return {"word": "released", "text": f"Release {subject.release.short} passed every gate."}
    if gates["failed"]:
        return {"word": "refused", "text": f"No release: {len(gates['failed'])} gate(s) failed."}
    unmade = [name for name in subject.missing if name != "release"]
    if unmade or not subject.of("mteb_scores"):
        text = f"Not made yet: {', '.join(unmade)}." if unmade else "The scores are not made yet."
        return {"word": "unfinished", "text": text}
    return {"word": "unfinished", "text": "Everything but the release is made: `speed run` decides on it."}


def _figures(subject: Subject, stages: list[dict[str, Any]], scored: Mapping[str, Any] | None) -> list[dict[str, str]]:
    totals = _totals(stages)
    rows = next((stage["rows"] for stage in stages if stage["name"] == "final_triplets"), None)
    asked = sum(int(a.metadata.get("asked") or 0) for a in subject.of("final_triplets"))
    figures = [("rows kept", _count(rows), f"of {asked:,} asked for" if asked else "")]
    if scored:
        first, *rest = scored["models"]
        best = max(rest, key=lambda model: model["mean"], default=None)
        than = f"{best['name']}: {best['mean']:.3f}" if best else ""
        figures.append(("mean score", f"{first['mean']:.3f}", than))
    tokens = (totals["prompt_tokens"], totals["output_tokens"])
    figures += [
        ("teacher calls", _count(totals["calls"]), "cached answers included"),
        ("teacher tokens", _count(None if None in tokens else sum(tokens)), "prompts and answers"),
        ("money", money(totals), "of the teacher's calls"),
        ("compute", duration(totals["seconds"]), "sum over stages"),
    ]
    return [{"name": name, "value": value, "note": note} for name, value, note in figures]


def _count(value: float | None) -> str:
    return "unknown" if value is None else f"{value:,}"


def money(sums: Mapping[str, Any]) -> str:
    """Money with its currency; `unknown` where a call has no price."""
    if sums["money"] is None:
        return "unknown"
    return f"{sums['money']:,.4f} {sums['currency'] or ''}".strip()
