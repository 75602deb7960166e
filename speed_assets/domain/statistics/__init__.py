"""Whether one model is better or no worse than another, from the samples that their scores are made of.

Belongs here: the names that other modules use. Every part has a module of its own: `samples.py`, `weighted.py`,
`comparison.py`, `verdicts.py`, `scaling.py`.
"""

from speed_assets.domain.statistics.comparison import (
    Difference,
    compare,
    mean_over_tasks,
    paired_by_seed,
    score_interval,
    seed_noise,
)
from speed_assets.domain.statistics.scaling import Interval, LogLinear, log_linear, mean_interval
from speed_assets.domain.statistics.task_samples import Part, TaskSamples, samples_by_model
from speed_assets.domain.statistics.verdicts import Verdict, holm, non_inferiority, superiority
from speed_assets.domain.statistics.weighted import weighted_average_precision, weighted_mean, weighted_spearman

__all__ = [
    "Difference",
    "Interval",
    "LogLinear",
    "Part",
    "TaskSamples",
    "Verdict",
    "compare",
    "holm",
    "log_linear",
    "mean_interval",
    "mean_over_tasks",
    "non_inferiority",
    "paired_by_seed",
    "samples_by_model",
    "score_interval",
    "seed_noise",
    "superiority",
    "weighted_average_precision",
    "weighted_mean",
    "weighted_spearman",
]
