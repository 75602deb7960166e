"""What no training row may be, whoever wrote it: refusals, echoes, labels given away, copied queries, noise, loops.

A rule has a code and sees the columns task_type, task, query, positive and negative of many rows at once. It is for what
a writer of rows does wrong. Rows that people wrote pass: `benchmarks/human_rows.py` counts them.

Belongs here: the names that other modules use. Not here: regular expressions (`row_patterns.py`), noise (`noise.py`),
languages (`language.py`), rows that repeat others (`near_duplicates.py`, `contamination.py`), whether a text is right
(the judge).
"""

from speed_assets.domain.rules.codes import RULE_CODES, RULES_ACROSS_ROWS, RuleCode
from speed_assets.domain.rules.first_broken_rule import first_broken_rules

__all__ = ["RULES_ACROSS_ROWS", "RULE_CODES", "RuleCode", "first_broken_rules"]
