"""What a change costs as a share of a full run: `python -m benchmarks.increments`.

One home has a full run of the offline recipe. Then one thing changes at a time: 1 % of the topics, a filter's threshold, the
wording of the prompts of one task type, the teacher's revision; and nothing. For each change: teacher calls, generated rows and wall time as shares of the full run, and the models
that were trained. The artifacts of the changed topics are compared, byte for byte, with those of a run from scratch in
another home. Last line: one JSON object.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from resources.progress import ProgressLines
from speed_assets.orchestration import runs
from speed_assets.orchestration.plan import plan
from speed_assets.recipe import Checks, Recipe, load_recipe
from tests.support.homes import digests

GENERATORS = {"junior_model", "senior_model", "revisor_model"}


def measured(recipe: Recipe, home: Path) -> dict[str, Any]:
    """Calls, generated rows, seconds and trained models of a run; the plan must have predicted the same calls."""
    planned = plan(recipe, home).as_json()
    report = runs.run(recipe, home, say=ProgressLines().print_line)
    if report.errors:
        sys.exit("\n".join(f"error: {error}" for error in report.errors))
    made = [report.metadata[name] for name in report.made]
    result = {
        "calls": sum(int(m.get("teacher_calls") or 0) for m in made),
        "planned_calls": planned["calls"],
        "rows": sum(int(m.get("generated_rows") or 0) for m in made),
        "wall_s": report.wall_s,
        "trained": [name for name in report.made if name.endswith(("_model", "_models"))],
    }
    print(json.dumps(result), file=sys.stderr, flush=True)
    return result


def share(change: dict[str, Any], full: dict[str, Any]) -> dict[str, Any]:
    """A change compared with the full run."""
    return {
        **{f"{name}_share": round(change[name] / full[name], 4) for name in ("calls", "rows")},
        "wall_share": round(change["wall_s"] / full["wall_s"], 3),
        "planned_calls": change["planned_calls"],
        "calls": change["calls"],
        "rows": change["rows"],
        "retrained": sorted(GENERATORS & set(change["trained"])),
        "trained": change["trained"],
    }


def with_changed_topics(recipe: Recipe, folder: Path) -> Recipe:
    """The recipe with 1 % of its topics replaced by new ones, none of them a topic for alignment."""
    assert recipe.topics.alignment is not None
    aligned = set(Path(recipe.topics.alignment).read_text().splitlines())
    lines = Path(recipe.topics.file).read_text().splitlines()
    places = [i for i, line in enumerate(lines) if line and not line.startswith("#") and line not in aligned]
    count = max(1, round(sum(1 for line in lines if line and not line.startswith("#")) / 100))
    for number, place in enumerate(places[:: len(places) // count][:count]):
        lines[place] = f"Arts/Glass/Studio_Work/Goblets_{number}"
    file = folder / "topics.txt"
    file.write_text("\n".join(lines) + "\n")
    return recipe.model_copy(update={"topics": recipe.topics.model_copy(update={"file": str(file)})})


def main() -> None:
    argparse.ArgumentParser(description=__doc__).parse_args()
    # What a change costs is asked here; what the gates say of a changed teacher or wording is not.
    recipe = load_recipe("offline").model_copy(update={"checks": Checks.waived()})
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        home, scratch = folder / "home", folder / "scratch"
        full = measured(recipe, home)
        topics = with_changed_topics(recipe, folder)
        near = recipe.final_triplets.near_duplicates
        threshold = recipe.model_copy(
            update={
                "final_triplets": recipe.final_triplets.model_copy(
                    update={"near_duplicates": near.model_copy(update={"jaccard": near.jaccard - 0.05})}
                )
            }
        )
        teacher = recipe.model_copy(update={"teacher": recipe.teacher.model_copy(update={"revision": "2"})})
        wording = folder / "wording.yaml"
        wording.write_text('attributes:\n  unit: "a {value}"\n')  # only STS prompts have a unit
        template = recipe.model_copy(update={"prompts": recipe.prompts.model_copy(update={"file": str(wording)})})
        result = {
            "nothing": share(measured(recipe, home), full),
            "topics_1pct": share(measured(topics, home), full),
            "threshold": share(measured(threshold, home), full),
            "template": share(measured(template, home), full),
            "teacher": share(measured(teacher, home), full),
        }
        measured(topics, scratch)
        before, after = digests(topics, home), digests(topics, scratch)
        differing = sorted(name for name in before if before[name] != after[name])
    print(json.dumps({**result, "identical": not differing, "differing": differing, "full": full}))


if __name__ == "__main__":
    main()
