"""What may start runs by itself, all of it stopped until somebody turns it on: a condition, a sensor, a schedule.

Belongs here: when a run is asked for. Not here: what is stale for `speed run` (`runs.py`), and how anything is made.
"""

from __future__ import annotations

from typing import Any

import dagster as dg

from resources.externals import external_digest
from speed_assets.domain.graph import EVALUATION_TEXTS, Graph
from speed_assets.recipe import Recipe

EVALUATION_CRON = "0 3 * * 0"
"""Sundays at three, in UTC."""
AUTOMATION_SECONDS = 30
"""Seconds between two looks at the conditions."""
TOPICS_SECONDS = 60
"""Seconds between two looks at the topic file."""


def when_stale() -> dg.AutomationCondition[Any]:
    """Newly missing, made by other code or another recipe, or from other data, once each; never while its inputs are
    made, and never past a gate that failed. Turning it on starts nothing: what was missing before may cost calls.

    An input that was made again with the same content starts nothing: data versions are content digests.
    """
    outdated: dg.AutomationCondition[Any] = (
        dg.AutomationCondition.code_version_changed()
        | dg.AutomationCondition.any_deps_match(dg.AutomationCondition.data_version_changed())
    )
    changed = (dg.AutomationCondition.newly_missing() | outdated).with_label("stale")
    # What an asset is made from is to be made first: of all below a change, and of what a failed gate holds up.
    due = outdated.since(dg.AutomationCondition.newly_updated())
    passed = dg.AutomationCondition.all_checks_match(dg.AutomationCondition.check_passed(), blocking_only=True)
    return (
        changed.since_last_handled()
        & ~dg.AutomationCondition.any_deps_missing()
        & ~dg.AutomationCondition.any_deps_match(due)
        & ~dg.AutomationCondition.any_deps_in_progress()
        & ~dg.AutomationCondition.in_progress()
        & ~dg.AutomationCondition.any_deps_match(~passed)
    )


def automation_sensor() -> dg.AutomationConditionSensorDefinition:
    """Asks the conditions of all assets."""
    return dg.AutomationConditionSensorDefinition(
        "remake_what_is_stale",
        target=dg.AssetSelection.all(),
        minimum_interval_seconds=AUTOMATION_SECONDS,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="Makes anew what is stale, one step down the graph at a time, and never past a failed gate.",
    )


def topic_sensor(recipe: Recipe) -> dg.SensorDefinition:
    """Asks for `topics` when the topic file's content has changed; a file that cannot be read is told and skipped."""

    @dg.sensor(
        name="topic_file",
        target=dg.AssetSelection.assets("topics"),
        minimum_interval_seconds=TOPICS_SECONDS,
        default_status=dg.DefaultSensorStatus.STOPPED,
        description="Makes topics anew when the content of the topic file has changed.",
    )
    def topic_file(context: dg.SensorEvaluationContext) -> dg.SensorResult | dg.SkipReason:
        try:
            content = external_digest(recipe, "topic_file", None)
        except (OSError, ValueError) as error:
            return dg.SkipReason(str(error))
        if context.cursor is None:
            return dg.SensorResult(cursor=content, skip_reason="the topic file as it is now is the one to compare with")
        if content == context.cursor:
            return dg.SkipReason("the topic file is as it was")
        # Without a run key: one would keep a file that goes back to an earlier content from being read again.
        return dg.SensorResult([dg.RunRequest()], cursor=content)

    return topic_file


def evaluation_schedule(graph: Graph) -> dg.ScheduleDefinition:
    """Scores the embedding model anew for what changes outside: libraries, and local evaluation sets, which the rows are
    first held against anew. What has not changed is reused, and what is above the rows is not touched."""
    first = [name for name in (EVALUATION_TEXTS, "row_scores", "final_triplets") if name in graph]
    return dg.ScheduleDefinition(
        name="evaluation",
        cron_schedule=EVALUATION_CRON,
        execution_timezone="UTC",
        target=dg.AssetSelection.assets(*first).downstream() & dg.AssetSelection.assets("mteb_scores").upstream(),
        default_status=dg.DefaultScheduleStatus.STOPPED,
        description="Scores the newest embedding model every week.",
    )
