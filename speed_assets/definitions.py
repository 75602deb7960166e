"""What `dg dev` loads: the definitions of the recipe in `SPEED_RECIPE` (default: offline).

Belongs here: choosing the recipe, and planning it when definitions are loaded. Not here: anything else.
"""

import json
import os
from functools import partial

import dagster as dg
from dagster._core.definitions.definitions_load_context import DefinitionsLoadContext, DefinitionsLoadType

from resources.store.home import speed_home
from resources.store.store import StoreError
from speed_assets.build import build_defs
from speed_assets.orchestration import doctor
from speed_assets.orchestration.automation import evaluation_schedule, stale_sensor
from speed_assets.orchestration.plan import plan
from speed_assets.orchestration.plan_text import in_words
from speed_assets.orchestration.staleness import Instance
from speed_assets.recipe import DEFAULT_RECIPE, Recipe, RecipeError, load_recipe

_PLANNED = "speed/planned"


@dg.definitions
def defs() -> dg.Definitions:
    """The recipe's definitions, with code versions from which Dagster shows the same assets as stale as `speed plan`.

    Run workers reuse the launcher's code versions, so their outputs are not shown as stale.
    """
    recipe = load_recipe(os.environ.get("SPEED_RECIPE", DEFAULT_RECIPE), os.environ.get("SPEED_TOPICS"))
    context = DefinitionsLoadContext.get()
    if context.load_type == DefinitionsLoadType.INITIALIZATION:
        found = planned(recipe)
        context.add_to_pending_reconstruction_metadata(_PLANNED, json.dumps(found))
    else:
        found = json.loads(context.reconstruction_metadata.get(_PLANNED, "[{}, {}]"))
    code_versions, notes = found
    return build_defs(
        recipe,
        code_versions=code_versions,
        notes=notes,
        executor=os.environ.get("SPEED_EXECUTOR"),
        before_steps=partial(doctor.before_run, recipe),
        sensors=[stale_sensor(recipe)],
        schedules=[evaluation_schedule(recipe.graph())],
    )


def planned(recipe: Recipe) -> tuple[dict[str, str], dict[str, str]]:
    """Plan the recipe in the home and Dagster instance of this process.

    Returns:
        Code versions, and the reasons why stale artifacts are stale, both by the name of the artifact. Both are empty without
        an instance or a home, and where the plan fails: a run then raises the error.
    """
    if not os.environ.get("DAGSTER_HOME") or not speed_home().is_dir():
        return {}, {}
    try:
        found = plan(recipe, speed_home(), Instance(dg.DagsterInstance.get()))
    except (RecipeError, StoreError, OSError) as error:
        dg.get_dagster_logger().warning(f"the plan failed, so stale assets are not marked: {error}")
        return {}, {}
    notes = {step.name: in_words(step, found.currency) for step in found.steps if step.action != "reuse"}
    return dict(found.code_versions), notes
