"""What this project takes of Dagster that Dagster does not promise to keep: the place to look when its pinned version changes.

Steps in lanes, the probes before the first step, runs that are launched from this process and their events need what Dagster's own
executors are made of; it offers no other way in.

Belongs here: imports of `dagster._...` and `dagster_shared`, and nothing else; the linter keeps them out of every other module but those that start
the UI's processes (`ui_services.py`, `ui_webserver.py`), which import them late. Not here: what is done with them.
"""

from dagster._core.definitions.definitions_load_context import DefinitionsLoadContext, DefinitionsLoadType
from dagster._core.definitions.job_base import InMemoryJob
from dagster._core.errors import DagsterExecutionInterruptedError, raise_execution_interrupts
from dagster._core.events import DagsterEvent, EngineEventData
from dagster._core.execution import compute_logs
from dagster._core.execution.api import ExecuteRunWithPlanIterable, execute_run_iterator
from dagster._core.execution.compute_logs import create_compute_log_file_key
from dagster._core.execution.context.system import PlanExecutionContext, PlanOrchestrationContext, StepExecutionContext
from dagster._core.execution.context_creation_job import PlanExecutionContextManager
from dagster._core.execution.plan.active import ActiveExecution
from dagster._core.execution.plan.execute_plan import dagster_event_sequence_for_step
from dagster._core.execution.plan.instance_concurrency_context import InstanceConcurrencyContext
from dagster._core.execution.plan.plan import ExecutionPlan
from dagster._core.execution.retries import RetryMode
from dagster._core.execution.step_dependency_config import StepDependencyConfig
from dagster._core.executor.base import Executor
from dagster._core.launcher import CheckRunHealthResult, DefaultRunLauncher, WorkerStatus
from dagster._core.log_manager import DagsterLogManager
from dagster_shared.error import SerializableErrorInfo

__all__ = [
    "ActiveExecution",
    "CheckRunHealthResult",
    "DagsterEvent",
    "DagsterExecutionInterruptedError",
    "DagsterLogManager",
    "DefaultRunLauncher",
    "DefinitionsLoadContext",
    "DefinitionsLoadType",
    "EngineEventData",
    "ExecuteRunWithPlanIterable",
    "ExecutionPlan",
    "Executor",
    "InMemoryJob",
    "InstanceConcurrencyContext",
    "PlanExecutionContext",
    "PlanExecutionContextManager",
    "PlanOrchestrationContext",
    "RetryMode",
    "SerializableErrorInfo",
    "StepDependencyConfig",
    "StepExecutionContext",
    "WorkerStatus",
    "compute_logs",
    "create_compute_log_file_key",
    "dagster_event_sequence_for_step",
    "execute_run_iterator",
    "raise_execution_interrupts",
]
