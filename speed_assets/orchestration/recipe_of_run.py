"""The recipe of a run that Dagster launches: that of the definitions, or with fields that run config changes.

In the launchpad of *Materialize all* or of the job `everything`:

    resources:
      recipe:
        config:
          set:
            embedding_model.learning_rate: 0.05

Belongs here: run config in, recipe out. Not here: what a field may be (`speed_assets/recipe`).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import dagster as dg

from resources.redaction import masked
from resources.store.asset_keys import name_among
from speed_assets.recipe import Recipe, RecipeError, changes_in_words

CHANGED_TAG = "speed/set"
"""Tag of a run: the fields that it changes, with their values."""
RECIPE_TAG = "speed/recipe"
_FIELDS = "set"
_CONFIG = {
    _FIELDS: dg.Field(
        dict,
        is_required=False,
        description="Fields of the recipe with other values for this run, as `embedding_model.learning_rate: 0.05`. What is made "
        "has fingerprints of its own; the recipe's file stays as it is.",
    )
}


def changes_in(run_config: Mapping[str, Any], key_prefix: str | None = None) -> dict[str, Any]:
    """The fields that the run config of a run changes; none where it changes none. `key_prefix` as in `build_defs`."""
    found: Any = run_config
    for name in ("resources", name_among(key_prefix, "recipe"), "config", _FIELDS):
        found = found.get(name) if isinstance(found, Mapping) else None
    return dict(found) if isinstance(found, Mapping) else {}


def recipe_resource(
    recipe: Recipe, with_fields: Callable[[Mapping[str, Any]], Recipe] | None = None
) -> dg.ResourceDefinition:
    """The resource `recipe`: the first that is made in a run, so that a bad field ends it before anything is spent.

    Args:
        recipe: of the definitions.
        with_fields: the recipe with other values at dotted fields; without it there is no run config.
    """

    def make(context: dg.InitResourceContext) -> Recipe:
        changes = dict((context.resource_config or {}).get(_FIELDS) or {})
        changed = changed_recipe(recipe, with_fields(changes)) if changes and with_fields else recipe
        if context.instance and context.run:
            tags = {RECIPE_TAG: recipe.name} | ({CHANGED_TAG: masked(changes_in_words(changes))} if changes else {})
            context.instance.add_run_tags(context.run.run_id, tags)
        return changed

    return dg.ResourceDefinition(resource_fn=make, config_schema=_CONFIG if with_fields else None)


def changed_recipe(recipe: Recipe, changed: Recipe) -> Recipe:
    """The changed recipe, if a run of the definitions of `recipe` can follow it. Raises RecipeError."""
    advice = "change the recipe's file and reload the definitions, or use `speed run --set`"
    if changed.graph() != recipe.graph():
        raise RecipeError(f"the changed fields give another graph of assets, which one run cannot have: {advice}")
    if (changed.runtime.lanes, changed.runtime.cluster) != (recipe.runtime.lanes, recipe.runtime.cluster):
        raise RecipeError(f"runtime.lanes and runtime.cluster are read when definitions are loaded: {advice}")
    return changed
