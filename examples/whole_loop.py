"""The whole loop from Python: plan, run, and the release.

    python examples/whole_loop.py offline .speed

The recipe `offline` is a demonstration in a toy language: minutes on two cores, no key. Needs the extras `train` and `eval`.
"""

import sys
from pathlib import Path

import speed_assets as speed

if __name__ == "__main__":  # worker processes import this file
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    recipe, home = speed.load_recipe(sys.argv[1]), Path(sys.argv[2]).resolve()
    try:
        planned = speed.plan(recipe, home).as_json()
        print(f"{len(planned['make'])} artifacts to make, {planned['calls']} calls of the teacher")
        report = speed.run(recipe, home, say=print)
    except speed.SpeedError as error:
        sys.exit(f"error: {error}")
    for reason in report.errors:
        print(f"not released: {reason}")
    if not report.errors:
        release = speed.open_release(home / "releases" / "current" / recipe.name)
        print(f"release {release.short} in {release.path}")
