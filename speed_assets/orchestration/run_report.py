"""The report of a run, and the JSON object that ends it.

Belongs here: what a run did, as values. Not here: running (`runs.py`), reading Dagster's events (`run_events.py`), printing.
"""

from __future__ import annotations

import resource
from dataclasses import dataclass, field
from typing import Any

from checks.registry import check_key, checks_of
from resources.store.artifacts import Artifacts, artifact_label, partitions_of
from resources.store.shared_store import SharedStore
from resources.store.store import Artifact

TRUTH_OF = ("junior_data", "senior_data", "revised_data", "final_triplets")
"""Tables whose rows are checked against the truth, where the microworld has it."""


@dataclass
class RunReport:
    """What a run did. `made` and `reused` map `asset/task type` to seconds; `errors` is empty on success."""

    recipe: str
    run: str = ""
    made: dict[str, float] = field(default_factory=dict)
    reused: dict[str, float] = field(default_factory=dict)
    metadata: dict[str, dict[str, Any]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    wall_s: float = 0.0

    def add_earlier(self, before: RunReport) -> None:
        """Add what the run before this one made, where the two are blocks of one: what was made then is not counted as reused. Its
        errors are left out: this run tried again what they stopped."""
        self.made = {**before.made, **{name: before.made.get(name, 0.0) + s for name, s in self.made.items()}}
        self.reused = {name: s for name, s in self.reused.items() if name not in self.made}
        self.metadata = before.metadata | self.metadata
        self.wall_s += before.wall_s


def summary(report: RunReport, artifacts: Artifacts) -> dict[str, Any]:
    """The JSON object that ends a run.

    Args:
        report: the run's report.
        artifacts: the artifacts of its recipe, in the store that it wrote to.

    Returns:
        Plain values: shares and scores are of 0..1, times in seconds, memory in GB.
    """
    graph = artifacts.graph
    partitions = {name: [artifact_label(name, p) for p in partitions_of(stage)] for name, stage in graph.items()}
    calls = [report.metadata[name] for name in report.made]
    release = artifacts.peek("release")
    scores = artifacts.peek("mteb_scores")
    seconds = {name: round(sum(report.made.get(p, 0.0) for p in parts), 1) for name, parts in partitions.items()}
    return {
        "recipe": report.recipe,
        "run": report.run,
        "wall_s": round(report.wall_s, 1),
        "teacher_calls": sum(int(m.get("teacher_calls") or 0) for m in calls),
        "reused_calls": sum(int(m.get("reused_calls") or 0) for m in calls),
        "trained": [n for n, s in graph.items() if s.kind == "model" and any(p in report.made for p in partitions[n])],
        "reused": [n for n in graph if all(p in report.reused for p in partitions[n])],
        "checks": check_counts(artifacts),
        "scores": scores.metadata["scores"] if scores else {},
        "funnel": _funnel(artifacts),
        "truth": {name: share for name in TRUTH_OF if name in graph and (share := _truth(artifacts, name))},
        "release": str(release.path) if isinstance(release, Artifact) else None,
        "refused": report.refused,
        "errors": report.errors,
        "stage_s": {name: s for name, s in seconds.items() if s},
        "peak_rss_gb": round(_peak_rss(), 2),
        **({"shared_store": store.traffic()} if isinstance(store := artifacts.store, SharedStore) else {}),
    }


def check_counts(artifacts: Artifacts) -> dict[str, int]:
    """The latest outcomes of the checks on the artifacts of this recipe, counted."""
    counts = {"passed": 0, "failed": 0, "warned": 0}
    for stage, partition in artifacts.in_build_order():
        artifact = artifacts.peek(stage.name, partition)
        for check in checks_of(stage.name) if artifact else ():
            assert artifact is not None
            outcome = artifacts.load_outcome(artifact, check.name, check_key(check, artifacts.recipe))
            if outcome is not None:
                counts["passed" if outcome["passed"] else "failed" if check.blocking else "warned"] += 1
    return counts


def _funnel(artifacts: Artifacts) -> list[dict[str, Any]]:
    """Rows in, removed and out of each filter of final_triplets."""
    triplets = artifacts.peek("final_triplets") if "final_triplets" in artifacts.graph else None
    steps = (triplets.metadata.get("steps") if triplets else None) or ()
    return [{name: step[name] for name in ("step", "rows_in", "removed", "rows_out")} for step in steps]


def _truth(artifacts: Artifacts, name: str) -> dict[str, float] | None:
    """Rows of a table that are right, over its partitions, as shares of the rows asked for; None where that is unknown."""
    found = [artifacts.peek(name, p) for p in partitions_of(artifacts.graph[name])]
    known = [(a.metadata["asked"], a.metadata["truth"]) for a in found if a is not None and "truth" in a.metadata]
    asked = sum(count for count, _ in known)
    if not asked or len(known) < len(found):
        return None
    return {part: round(sum(n * t[part] for n, t in known) / asked, 4) for part in known[0][1]}


def _peak_rss() -> float:
    """Largest resident memory of this process plus that of its largest child, in GB."""
    kilobytes = sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return kilobytes / 1e6
