"""Lanes: an executor that runs the steps of a run at the same time, each kind within its own number of lanes.

A step of this product waits: for a worker process, for the teacher, for a file. So threads of one process are enough, a step
that finds its artifact costs milliseconds, and heavy work stays in worker processes. Steps that use models share the lanes
`gpu` where this machine has a GPU, else `cpu`; steps that only ask have the lanes `teacher`. So a teacher's stage never waits
for a training that it does not need. All others (tables, checks) wait only for their inputs.

Belongs here: which steps run now, and the end of an interrupted run. Not here: what a step does (`assets/stage.py`).
"""

from __future__ import annotations

import ctypes
import logging
import os
import queue
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import dagster as dg
from typing_extensions import override

from resources.dagster_internals import (
    ActiveExecution,
    DagsterEvent,
    DagsterExecutionInterruptedError,
    EngineEventData,
    ExecuteRunWithPlanIterable,
    ExecutionPlan,
    Executor,
    InstanceConcurrencyContext,
    PlanExecutionContext,
    PlanExecutionContextManager,
    PlanOrchestrationContext,
    RetryMode,
    StepExecutionContext,
    create_compute_log_file_key,
    dagster_event_sequence_for_step,
    raise_execution_interrupts,
)
from resources.instance import gpu_pool
from speed_assets.assets.stage import INTERRUPTED
from speed_assets.domain.graph import Stage
from speed_assets.recipe import Recipe

LANE_TAG = "speed/lane"
"""Tag of a step: the lane that it needs."""
_STEPS_MAX = 16
"""Steps at the same time in all, those without a lane included: they hold threads, not cores."""
_POLL_S = 0.5
"""Seconds between two checks whether another run has freed a slot."""
_GRACE_S = 30.0
"""Seconds that an interrupted run waits for its steps: an engine needs some to free its memory."""


def lane_of(stage: Stage, recipe: Recipe) -> str | None:
    """The lane of a stage's step: `gpu`, `cpu` or `teacher`; None where it needs none."""
    if stage.gpu:
        return "gpu" if gpu_pool.gpu_visible() or recipe.runtime.cluster else "cpu"
    return "teacher" if stage.asks_teacher else None


def lanes_executor(*recipes: Recipe) -> dg.ExecutorDefinition:
    """The executor of runs, with the lanes that `runtime.lanes` asks for: of several recipes the most of each kind."""
    asked = [recipe.runtime.lanes for recipe in recipes]
    limits = {
        "cpu": max(lanes.cpu or len(os.sched_getaffinity(0)) for lanes in asked),
        "gpu": max(lanes.gpu for lanes in asked),
        "teacher": max(lanes.teacher for lanes in asked),
    }

    @dg.executor(name="lanes")
    def lanes_of_recipe(_context: dg.InitExecutorContext) -> Executor:
        return LanesExecutor(limits)

    return lanes_of_recipe


class LanesExecutor(Executor):
    """Runs ready steps on threads of this process, at most `limits` of each lane at a time."""

    def __init__(self, limits: dict[str, int]) -> None:
        self._limits = [{"key": LANE_TAG, "value": lane, "limit": limit} for lane, limit in limits.items()]

    @property
    @override
    def retries(self) -> RetryMode:
        return RetryMode.DISABLED

    @override
    def execute(self, plan_context: PlanOrchestrationContext, execution_plan: ExecutionPlan) -> Iterator[DagsterEvent]:
        """The events of the run's steps, as they come."""
        data = EngineEventData.in_process(os.getpid(), execution_plan.step_keys_to_execute)
        yield DagsterEvent.engine_event(plan_context, "Running steps in lanes", event_specific_data=data)
        yield from iter(
            ExecuteRunWithPlanIterable(
                execution_plan=plan_context.execution_plan,
                iterator=partial(_steps, self._limits),
                execution_context_manager=PlanExecutionContextManager(
                    job=plan_context.job,
                    retry_mode=plan_context.retry_mode,
                    execution_plan=plan_context.execution_plan,
                    run_config=plan_context.run_config,
                    dagster_run=plan_context.dagster_run,
                    instance=plan_context.instance,
                    raise_on_error=plan_context.raise_on_error,
                    output_capture=plan_context.output_capture,
                    step_dependency_config=self.step_dependency_config,
                ),
            )
        )


def _steps(
    limits: list[dict[str, Any]], job_context: PlanExecutionContext, execution_plan: ExecutionPlan
) -> Iterator[DagsterEvent]:
    """Events of all steps. Raises DagsterExecutionInterruptedError when the run is interrupted."""
    running = _Running()
    with ExitStack() as stack:
        slots = stack.enter_context(InstanceConcurrencyContext(job_context.instance, job_context.dagster_run))
        log_key = job_context.instance.compute_log_manager.build_log_key_for_run(
            job_context.run_id,
            create_compute_log_file_key(),  # type: ignore[no-untyped-call]
        )
        captured = stack.enter_context(job_context.instance.compute_log_manager.capture_logs(log_key))
        keys = [step.key for step in execution_plan.get_steps_to_execute_in_topo_order()]
        yield DagsterEvent.capture_logs(job_context, keys, log_key, captured)
        active = stack.enter_context(
            ActiveExecution(
                execution_plan,
                job_context.retry_mode,
                max_concurrent=_STEPS_MAX,
                tag_concurrency_limits=limits,
                instance_concurrency_context=slots,
            )
        )
        stack.callback(running.end)  # before the resources of the run are closed
        dropped = stack.enter_context(dropped_interrupts())
        while not active.is_complete:
            for step in active.get_steps_to_execute():
                running.start(job_context.for_step(step, active.get_known_state()))
            yield from active.concurrency_event_iterator(job_context)
            try:
                with raise_execution_interrupts():
                    key, event = running.next()
                if dropped.is_set():
                    raise DagsterExecutionInterruptedError
            except DagsterExecutionInterruptedError:
                raise DagsterExecutionInterruptedError(INTERRUPTED) from None
            if event is not None:
                yield event
                active.handle_event(event)
            elif key is not None:
                active.verify_complete(job_context, key)
            yield from active.plan_events_iterator(job_context)


class _Running:
    """Steps on threads, and their events in the order in which they come."""

    def __init__(self) -> None:
        self._events: queue.SimpleQueue[tuple[str | None, DagsterEvent | None]] = queue.SimpleQueue()
        self._threads: dict[str, threading.Thread] = {}

    def start(self, context: StepExecutionContext) -> None:
        thread = threading.Thread(target=self._do, args=(context,), name=context.step.key, daemon=True)
        self._threads[context.step.key] = thread
        thread.start()

    def next(self) -> tuple[str | None, DagsterEvent | None]:
        """An event and its step; no event where the step has ended; neither where nothing has come for a while."""
        try:
            return self._events.get(timeout=_POLL_S)
        except queue.Empty:
            return None, None

    def end(self) -> None:
        """Interrupt the steps that still run, as Ctrl-C would, and wait for them."""
        until = time.monotonic() + _GRACE_S
        with _quiet_interrupts():
            for thread in self._threads.values():
                _interrupt(thread)
            for thread in self._threads.values():
                thread.join(max(0.0, until - time.monotonic()))

    def _do(self, context: StepExecutionContext) -> None:
        key = context.step.key
        try:
            for event in dagster_event_sequence_for_step(context):
                self._events.put((key, event))
        except BaseException:  # noqa: S110 - its failure event is in the queue
            pass
        finally:
            self._events.put((key, None))


@contextmanager
def dropped_interrupts() -> Iterator[threading.Event]:
    """An event that is set when an interrupt strikes a finalizer, as in a garbage collection: Python prints and drops what is raised there."""
    others, dropped = sys.unraisablehook, threading.Event()

    def in_finalizer(found: Any) -> None:
        if issubclass(found.exc_type, DagsterExecutionInterruptedError | KeyboardInterrupt):
            dropped.set()
        else:
            others(found)

    sys.unraisablehook = in_finalizer
    try:
        yield dropped
    finally:
        sys.unraisablehook = others


@contextmanager
def _quiet_interrupts() -> Iterator[None]:
    """Print no traceback of an interrupt that strikes a thread at its end, in a finalizer, or where a library logs what it catches."""
    of_threads, of_finalizers = threading.excepthook, sys.unraisablehook
    printing = [handler for handler in (*logging.getLogger().handlers, logging.lastResort) if handler]

    def in_thread(found: Any) -> None:
        if found.exc_type is not DagsterExecutionInterruptedError:
            of_threads(found)

    def in_finalizer(found: Any) -> None:
        if found.exc_type is not DagsterExecutionInterruptedError:
            of_finalizers(found)

    def is_news(record: logging.LogRecord) -> bool:  # SQLAlchemy logs what ends the closing of a connection
        return not (record.exc_info and record.exc_info[0] is DagsterExecutionInterruptedError)

    threading.excepthook, sys.unraisablehook = in_thread, in_finalizer
    for handler in printing:
        handler.addFilter(is_news)
    try:
        yield
    finally:
        threading.excepthook, sys.unraisablehook = of_threads, of_finalizers
        for handler in printing:
            handler.removeFilter(is_news)


def _interrupt(thread: threading.Thread) -> None:
    """Raise DagsterExecutionInterruptedError in a thread, at its next line of Python."""
    if thread.is_alive() and thread.ident is not None:
        error = ctypes.py_object(DagsterExecutionInterruptedError)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread.ident), error)
