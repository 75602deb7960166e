"""What `dg dev` loads: the definitions of the recipe in `SPEED_RECIPE` (default: offline)."""

import os

from speed_assets.build import build_defs
from speed_assets.recipe import DEFAULT_RECIPE, load_recipe

defs = build_defs(
    load_recipe(os.environ.get("SPEED_RECIPE", DEFAULT_RECIPE), os.environ.get("SPEED_TOPICS")),
    executor=os.environ.get("SPEED_EXECUTOR"),
)
