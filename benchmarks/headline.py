"""The paper's headline in miniature: SPEED for N teacher calls against the teacher alone for N and for 11 N, what each part
of the loop is worth, and how the score rises with rows. `python -m benchmarks.headline`.

The recipe is `offline` with four times its rows at scale. SPEED's point is that such rows cost no calls: the paper has 26
raw rows for each call of its alignment, `offline` 1.5, this recipe 6 (more would not fit five seeds into an hour or two on
two cores). A quarter of it is `offline` itself, and there the ablations are, as the paper's are at a quarter of its rows.
Every arm's embedding model is trained for as many steps as SPEED's: few rows in ten passes are under-trained, and would lose
for that alone. `--alike epochs` gives every arm ten passes instead.

With `--homes` finished artifacts are kept, and an interrupted benchmark resumes from them. Last line: one JSON
object. `speed_n`, `teacher_n`, `teacher_11n` are means over seeds of the mean score over tasks; `p` is that of SPEED against
the teacher alone for as many calls, before Holm; `over_teacher_11n` the difference to 11 N, negative where SPEED is below.

Belongs here: that recipe, and the headline's JSON. Not here: how arms are made and compared (`speed_assets/orchestration/study.py`).
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

from resources.progress import ProgressLines
from resources.store.home import prepare_home
from speed_assets.orchestration.study import study
from speed_assets.orchestration.study_arms import SPEED, changed
from speed_assets.orchestration.study_report import table
from speed_assets.recipe import Recipe, load_recipe

ROWS = 4
"""Times the rows of `offline` that the senior writes."""


def headline_recipe(recipe: Recipe, alike: str = "steps") -> Recipe:
    """The recipe with `ROWS` times its rows at scale, and with the offline rows as the size of the ablations."""
    assert recipe.senior_data is not None
    rows = {name: ROWS * count for name, count in recipe.senior_data.rows.model_dump().items()}
    settings = {
        "study.alike": alike,
        "study.ablation_share": 1 / ROWS,
        "study.scaling": (1 / (2 * ROWS), 1 / ROWS, 2 / ROWS),
    }
    return changed(recipe.model_copy(update={"name": "headline"}), {"senior_data.rows": rows, **settings})


def headline(summary: dict[str, Any], wall_s: float) -> dict[str, Any]:
    """What the benchmark prints last."""
    arms = summary["arms"]
    against = {line["against"]: line for line in summary["comparisons"]}

    def comparison_with(name: str) -> dict[str, float] | None:
        line = against.get(name)
        return line and {key: line[key] for key in ("difference", "low", "high", "p", "p_adjusted")}

    return {
        "speed_n": arms[SPEED]["score"],
        "teacher_n": arms.get("teacher_n", {}).get("score"),
        "teacher_11n": arms.get("teacher_11n", {}).get("score"),
        "p": against.get("teacher_n", {}).get("p"),
        "n": summary["n"],
        "over_teacher_n": comparison_with("teacher_n"),
        "over_teacher_11n": comparison_with("teacher_11n"),
        "parts": {name: comparison_with(name) for name in against if not name.startswith("teacher_")},
        "per_doubling": summary["scaling"],
        "arms": arms,
        "seeds": summary["seeds"],
        "wall_s": round(wall_s, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--recipe", help="study this recipe as it is, instead of the headline's")
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3, 4, 5])
    parser.add_argument("--homes", type=Path, help="keep the home here instead of in a temporary folder")
    parser.add_argument("--alike", choices=("steps", "epochs"), default="steps")
    args = parser.parse_args()
    recipe = load_recipe(args.recipe) if args.recipe else headline_recipe(load_recipe("offline"), args.alike)
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        home = (args.homes or Path(temporary)).resolve()
        prepare_home(home)
        lines = ProgressLines()
        summary = study(recipe, home, seeds=args.seeds, progress=lines, say=lines.print_line)
    print(table(summary))
    print(json.dumps(headline(summary, time.monotonic() - started)))


if __name__ == "__main__":
    main()
