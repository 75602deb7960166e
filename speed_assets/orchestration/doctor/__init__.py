"""What is missing before a run begins: `speed doctor`, and the first seconds of `run`, `study`, `rehearse` and `plan`.

Belongs here: what other modules call. Not here: running the probes (`diagnosis.py`), what a run makes of their findings
(`beginning.py`), the probes themselves.
"""

from speed_assets.orchestration.doctor.beginning import Beginning, before_run, begin, missing, write_to_run_log
from speed_assets.orchestration.doctor.diagnosis import diagnose, examine
from speed_assets.orchestration.doctor.finding import Finding, as_json, as_text, in_words

__all__ = [
    "Beginning",
    "Finding",
    "as_json",
    "as_text",
    "before_run",
    "begin",
    "diagnose",
    "examine",
    "in_words",
    "missing",
    "write_to_run_log",
]
