"""The code location: the definitions of the recipe in `SPEED_RECIPE` (default: offline), or of several in `SPEED_RECIPES`.

Several recipes share the home: artifacts are named by fingerprint, so none mixes with another's, and answers are paid once. The
assets of each have its name before their keys, and job, sensor, schedule and groups have it, too.

Belongs here: choosing recipes, and planning them when definitions are loaded. Not here: what is defined (`speed_assets/build.py`).
"""

import json
import os
from collections.abc import Mapping
from functools import partial
from pathlib import Path

import dagster as dg

from resources.dagster_internals import DefinitionsLoadContext, DefinitionsLoadType
from resources.redaction import masked
from resources.store.artifacts import Artifacts
from resources.store.asset_keys import name_among
from resources.store.home import speed_home
from resources.store.shared_store import store_of
from resources.store.store import StoreError
from speed_assets.build import build_defs, everything, executor_named
from speed_assets.orchestration import doctor
from speed_assets.orchestration.automation import evaluation_schedule, stale_sensor
from speed_assets.orchestration.before_steps import with_beginning
from speed_assets.orchestration.plan import plan
from speed_assets.orchestration.plan_text import in_words
from speed_assets.orchestration.recipe_of_run import changes_in
from speed_assets.orchestration.staleness import Instance
from speed_assets.recipe import DEFAULT_RECIPE, Recipe, RecipeError, load_recipe

_PLANNED = "speed/planned"
RECIPES_VARIABLE = "SPEED_RECIPES"
Planned = tuple[Mapping[str, str], Mapping[str, str]]


def loaded_definitions() -> dg.Definitions:
    """The definitions of the recipes, with code versions from which Dagster shows the same assets as stale as `speed plan`.

    Run workers reuse the launcher's code versions, so their outputs are not shown as stale. Of several recipes one that cannot be
    used is an asset that says why, and the others are as if it were right.

    Raises:
        RecipeError: two recipes have one name, or none can be used.
    """
    files, topics = recipe_files(), os.environ.get("SPEED_TOPICS")
    several = len(files) > 1
    recipes: dict[str, Recipe] = {}
    unusable: dict[str, RecipeError] = {}
    for file in files:
        try:
            recipes[file] = load_recipe(file, topics)
        except RecipeError as problem:
            unusable[file] = problem
    if not recipes:
        raise next(iter(unusable.values()))
    names = [recipe.name for recipe in recipes.values()]
    if len(set(names)) < len(names):
        raise RecipeError(f"{RECIPES_VARIABLE}: two recipes have one name ({', '.join(names)}): give each its own")
    executor = executor_named(os.environ.get("SPEED_EXECUTOR"), *recipes.values())
    before = partial(
        _before_steps, {recipe.name if several else None: file for file, recipe in recipes.items()}, topics
    )
    executor = with_beginning(executor, before)
    return dg.Definitions.merge(
        *(
            _definitions(file, topics, recipe, executor, recipe.name if several else None)
            for file, recipe in recipes.items()
        ),
        *(_unusable(file, problem) for file, problem in unusable.items()),
    )


def _unusable(file: str, problem: RecipeError) -> dg.Definitions:
    """An asset in the place of a recipe that cannot be used: its description says why."""
    why = masked(f"This recipe cannot be used, and the others can: {problem}. Mend it, and reload the definitions.")
    dg.get_dagster_logger().error(why)
    return dg.Definitions(assets=[dg.AssetSpec(dg.AssetKey([Path(file).stem, "recipe"]), description=why)])


def component_definitions(file: str, topics: str | None, prefix: str, *, everywhere: bool = False) -> dg.Definitions:
    """The definitions of a recipe in a code location with definitions of other origin.

    Args:
        file: the recipe's file or name.
        topics: a topic file in place of the recipe's.
        prefix: begins the keys of its assets and the names of its job, sensor, schedule and resources.
        everywhere: its executor is that of the code location, and not of its job alone.

    Returns:
        The definitions, with code versions as in `loaded_definitions`.

    Raises:
        RecipeError: for a recipe that cannot be used.
    """
    recipe = load_recipe(file, topics)
    executor = executor_named(os.environ.get("SPEED_EXECUTOR"), recipe)
    executor = with_beginning(executor, partial(_before_steps, {prefix: file}, topics))
    defs = _definitions(file, topics, recipe, executor, prefix)
    if everywhere:
        return defs
    return dg.Definitions(
        assets=defs.assets,
        resources=defs.resources,
        sensors=defs.sensors,
        schedules=defs.schedules,
        jobs=[everything(Artifacts(recipe, store_of(speed_home()), prefix), executor)],
    )


def recipe_files() -> list[str]:
    """The recipes to load, by file or name: those of `SPEED_RECIPES`, between commas, or that of `SPEED_RECIPE`."""
    several = [name.strip() for name in os.environ.get(RECIPES_VARIABLE, "").split(",") if name.strip()]
    return list(dict.fromkeys(several)) or [os.environ.get("SPEED_RECIPE", DEFAULT_RECIPE)]


def _before_steps(
    files: Mapping[str | None, str], topics: str | None, run: dg.DagsterRun, instance: dg.DagsterInstance
) -> None:
    """What a run does first: the probes of each recipe that it has assets of, with the fields that its run config changes.

    Args:
        files: by the prefix of their keys, the recipes of the code location.
        topics: a topic file in place of the recipes'.
        run: the run, of which no step has begun.
        instance: its Dagster instance.

    Raises:
        RecipeError: for a field that is wrong, or where a probe finds an error.
    """
    for prefix, file in files.items():
        selected = run.asset_selection
        if selected and not any(prefix in (None, key.path[0]) for key in selected):
            continue
        if not selected and run.job_name != name_among(prefix, "everything"):
            continue
        recipe = load_recipe(file, topics, changes_in(run.run_config, prefix))
        doctor.before_run(recipe, run, instance, prefix)


def _definitions(
    file: str, topics: str | None, recipe: Recipe, executor: dg.ExecutorDefinition, prefix: str | None
) -> dg.Definitions:
    code_versions, notes = _planned_at_load(recipe, prefix)
    return build_defs(
        recipe,
        code_versions=code_versions,
        notes=notes,
        executor=executor,
        key_prefix=prefix,
        with_fields=partial(load_recipe, file, topics),
        sensors=[stale_sensor(recipe, prefix)],
        schedules=[evaluation_schedule(recipe.graph(), prefix)],
    )


def _planned_at_load(recipe: Recipe, prefix: str | None) -> Planned:
    """What `planned` finds when a code location is loaded; the processes of its runs get that again."""
    context, name = DefinitionsLoadContext.get(), f"{_PLANNED}/{prefix or ''}"
    if context.load_type == DefinitionsLoadType.INITIALIZATION:
        found = planned(recipe, prefix)
        context.add_to_pending_reconstruction_metadata(name, json.dumps(found))
        return found
    code_versions, notes = json.loads(context.reconstruction_metadata.get(name, "[{}, {}]"))
    return code_versions, notes


def planned(recipe: Recipe, key_prefix: str | None = None) -> Planned:
    """Plan the recipe in the home and Dagster instance of this process.

    Returns:
        Code versions, and the reasons why stale artifacts are stale, both by the name of the artifact. Both are empty without
        an instance or a home, and where the plan fails: a run then raises the error.
    """
    if not os.environ.get("DAGSTER_HOME") or not speed_home().is_dir():
        return {}, {}
    try:
        found = plan(recipe, speed_home(), Instance(dg.DagsterInstance.get(), key_prefix))
    except (RecipeError, StoreError, OSError) as error:
        dg.get_dagster_logger().warning(f"the plan failed, so stale assets are not marked: {error}")
        return {}, {}
    notes = {step.name: in_words(step, found.currency) for step in found.steps if step.action != "reuse"}
    return dict(found.code_versions), notes
