"""The task types as Dagster partitions."""

import dagster as dg

from speed_assets.domain.task_types import TASK_TYPE_NAMES

TASK_TYPE_PARTITIONS = dg.StaticPartitionsDefinition(list(TASK_TYPE_NAMES))
