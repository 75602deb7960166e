"""A sensor that materializes stale assets, and a schedule that scores again; both are off until a user turns them on.

Belongs here: when a run is requested. Not here: what is stale (`plan.py`), and how anything is made.
"""

from __future__ import annotations

from typing import Any

import dagster as dg

from resources.store.artifacts import partitions_of
from resources.store.asset_keys import key_of, name_among
from resources.store.home import speed_home
from resources.store.store import StoreError
from speed_assets.domain.fingerprints import digest
from speed_assets.domain.graph import EVALUATION_TEXTS, Graph
from speed_assets.orchestration.plan import Plan, Step, plan
from speed_assets.orchestration.staleness import Instance
from speed_assets.recipe import Recipe, RecipeError

EVALUATION_CRON = "0 3 * * 0"
"""Sundays at three, in UTC."""
SECONDS = 30
"""Seconds between two evaluations of the sensor: a change has to stay as it is from one to the next."""
_IN_PROGRESS = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def stale_sensor(recipe: Recipe, key_prefix: str | None = None) -> dg.SensorDefinition:
    """A sensor that starts one run with everything that `speed plan` would make, for each change of files, code or data.

    `key_prefix` is the name of the recipe where a code location has several.

    Turning it on starts no run, since missing assets may cost calls: the next change starts one, with everything that is
    stale by then. Two evaluations have to find the same change: who is still saving files gets one run, not two, and a plan
    that was made while a file changed starts none. Nothing downstream of a failed gate is launched, and nothing while another
    run is in progress.
    """

    @dg.sensor(
        name=name_among(key_prefix, "remake_what_is_stale"),
        target=_assets_of(recipe.graph(), key_prefix),
        minimum_interval_seconds=SECONDS,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description=f"Starts one run with everything of recipe {recipe.name} that `speed plan` would make, for each change; never "
        "past a failed gate.",
    )
    def remake_what_is_stale(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        instance = context.instance
        try:
            planned = plan(recipe, speed_home(), Instance(instance, key_prefix))
        except (RecipeError, StoreError, OSError) as error:
            return dg.SkipReason(f"the plan failed: {error}")
        state = stale_digest(planned)
        if context.cursor is None:
            return dg.SensorResult(cursor=state, skip_reason="turned on: the next change starts a run")
        handled, _, seen = context.cursor.partition(" ")
        if handled == state:
            return dg.SkipReason("nothing has changed")
        if seen != state:
            return dg.SensorResult(
                cursor=f"{handled} {state}", skip_reason="a change: it starts a run if it stays as it is"
            )
        if instance.get_runs_count(dg.RunsFilter(statuses=_IN_PROGRESS)):
            return dg.SkipReason("another run is in progress: the sensor tries again when it has ended")
        launched = launchable(planned)
        if not launched:
            return dg.SensorResult(cursor=state, skip_reason="everything is fresh, or downstream of a failed gate")
        keys = [key_of((step.asset, step.partition), key_prefix) for step in launched]
        return dg.SensorResult([dg.RunRequest(asset_selection=keys)], cursor=state)

    return remake_what_is_stale


def stale_digest(planned: Plan) -> str:
    """Digest of the stale assets and their code versions: the sensor launches the same state once."""
    stale = {step.name: planned.own_versions[step.name] for step in planned.steps if step.action != "reuse"}
    return digest(stale)


def _assets_of(graph: Graph, key_prefix: str | None) -> dg.AssetSelection:
    return dg.AssetSelection.assets(
        *(key_of((name, part), key_prefix) for name, stage in graph.items() for part in partitions_of(stage))
    )


def launchable(planned: Plan) -> list[Step]:
    """The stale steps without a failed gate, of their own or upstream."""
    return [step for step in planned.steps if step.action != "reuse" and not (step.failed_gate or step.failed_above)]


def evaluation_schedule(graph: Graph, key_prefix: str | None = None) -> dg.ScheduleDefinition:
    """A schedule that scores the embedding model again when libraries or local evaluation sets have changed.

    Rows are first compared with changed evaluation sets again. Unchanged assets are reused; nothing upstream of the rows is
    launched. `key_prefix` is the name of the recipe where a code location has several.
    """
    first = [name for name in (EVALUATION_TEXTS, "row_scores", "final_triplets") if name in graph]
    starts = dg.AssetSelection.assets(*(key_of((name, None), key_prefix) for name in first))
    scores = dg.AssetSelection.assets(key_of(("mteb_scores", None), key_prefix))
    selection: Any = starts.downstream() & scores.upstream()
    return dg.ScheduleDefinition(
        name=name_among(key_prefix, "evaluation"),
        cron_schedule=EVALUATION_CRON,
        execution_timezone="UTC",
        target=selection,
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description="Scores the newest embedding model every Sunday at 03:00 UTC, where libraries or evaluation sets have "
        "changed; unchanged assets are reused.",
    )
