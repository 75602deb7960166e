"""What a run does before its first step, once, in the process of the run: an executor around another one.

Processes that carry out single steps, such as jobs of a Ray cluster, have no part in it.

Belongs here: calling it. Not here: what is done (`doctor/beginning.py`), how steps are carried out (`lanes.py`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, cast

import dagster as dg
from typing_extensions import override

from resources.dagster_internals import (
    DagsterEvent,
    ExecutionPlan,
    Executor,
    PlanOrchestrationContext,
    RetryMode,
    StepDependencyConfig,
)

BeforeSteps = Callable[[dg.DagsterRun, dg.DagsterInstance], None]
"""Called with a run and its instance; an error that it raises fails the run, and no step begins."""


def with_beginning(inner: dg.ExecutorDefinition, before: BeforeSteps) -> dg.ExecutorDefinition:
    """The executor `inner`, under its own name and settings, that calls `before` first."""
    create = inner.executor_creation_fn
    assert create is not None

    def created(context: dg.InitExecutorContext) -> Executor:
        return _Beginning(create(context), before)

    return dg.ExecutorDefinition(
        name=inner.name,
        config_schema=cast(Any, inner.config_schema),
        requirements=inner.get_requirements,
        executor_creation_fn=created,
        description=inner.description,
    )


class _Beginning(Executor):
    def __init__(self, inner: Executor, before: BeforeSteps) -> None:
        self._inner, self._before = inner, before

    @property
    @override
    def retries(self) -> RetryMode:
        return self._inner.retries

    @property
    @override
    def step_dependency_config(self) -> StepDependencyConfig:
        return self._inner.step_dependency_config

    @override
    def execute(self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan) -> Iterator[DagsterEvent]:
        """The events of the run's steps, after what comes before them."""
        self._before(plan_context.dagster_run, plan_context.instance)
        yield from self._inner.execute(plan_context, execution_plan)
