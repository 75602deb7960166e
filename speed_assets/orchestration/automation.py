"""What may start runs by itself, stopped until somebody turns it on: a sensor for what is stale, a schedule for scores.

Belongs here: when a run is asked for. Not here: what is stale (`plan.py`), and how anything is made.
"""

from __future__ import annotations

from typing import Any

import dagster as dg

from resources.store.asset_keys import key_of
from resources.store.home import speed_home
from resources.store.store import StoreError
from speed_assets.domain.fingerprints import digest
from speed_assets.domain.graph import EVALUATION_TEXTS, Graph, sources
from speed_assets.orchestration.plan import Plan, Step, plan
from speed_assets.orchestration.staleness import FAILED, Instance
from speed_assets.recipe import Recipe, RecipeError

EVALUATION_CRON = "0 3 * * 0"
"""Sundays at three, in UTC."""
SECONDS = 30
"""Seconds between two looks at what is stale."""
_UNDER_WAY = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
    dg.DagsterRunStatus.STARTED,
    dg.DagsterRunStatus.CANCELING,
]


def stale_sensor(recipe: Recipe) -> dg.SensorDefinition:
    """One run with all that `speed plan` would make, once for each change: of the recipe's files, of code, of data.

    Turning it on starts nothing, since what was missing before may cost calls: the next change starts it, with whatever is
    stale by then. Nothing below a failed gate is launched, and nothing while another run is under way.
    """

    @dg.sensor(
        name="remake_what_is_stale",
        target=dg.AssetSelection.all(),
        minimum_interval_seconds=SECONDS,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="Starts one run with all that `speed plan` would make, once for each change; never past a failed gate.",
    )
    def remake_what_is_stale(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        instance = context.instance
        try:
            planned = plan(recipe, speed_home(), Instance(instance))
        except (RecipeError, StoreError, OSError) as error:
            return dg.SkipReason(f"what is stale cannot be planned: {error}")
        state = state_of(planned)
        if context.cursor is None:
            return dg.SensorResult(cursor=state, skip_reason="turned on: the next change starts a run")
        if context.cursor == state:
            return dg.SkipReason("nothing has changed")
        if instance.get_runs_count(dg.RunsFilter(statuses=_UNDER_WAY)):
            return dg.SkipReason("another run is under way: this looks again when it has ended")
        launched = not_held_up(planned, recipe.graph())
        if not launched:
            return dg.SensorResult(cursor=state, skip_reason="all is fresh, or held up by a gate that failed")
        keys = [key_of((step.asset, step.partition)) for step in launched]
        return dg.SensorResult([dg.RunRequest(asset_selection=keys)], cursor=state)

    return remake_what_is_stale


def state_of(planned: Plan) -> str:
    """What a plan is about, so that the same is launched once: what is stale, and under which code and recipe."""
    stale = {step.name: planned.own_versions[step.name] for step in planned.steps if step.action != "reuse"}
    return digest(stale)


def not_held_up(planned: Plan, graph: Graph) -> list[Step]:
    """The stale steps that no failed gate holds up, above or in themselves."""
    held: set[tuple[str, str | None]] = set()
    launched = []
    for step in planned.steps:
        failed = step.action == "record" and step.why.endswith(FAILED)
        if failed or held.intersection(sources(graph, step.asset, step.partition)):
            held.add((step.asset, step.partition))
        elif step.action != "reuse":
            launched.append(step)
    return launched


def evaluation_schedule(graph: Graph) -> dg.ScheduleDefinition:
    """Scores the embedding model again for what changes outside: libraries, and local evaluation sets, which the rows are
    first held against again. What has not changed is reused, and what is above the rows is not touched."""
    first = [name for name in (EVALUATION_TEXTS, "row_scores", "final_triplets") if name in graph]
    selection: Any = dg.AssetSelection.assets(*first).downstream() & dg.AssetSelection.assets("mteb_scores").upstream()
    return dg.ScheduleDefinition(
        name="evaluation",
        cron_schedule=EVALUATION_CRON,
        execution_timezone="UTC",
        target=selection,
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description="Scores the newest embedding model every week.",
    )
