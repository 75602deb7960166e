"""The codes of the rules. A code never changes its meaning.

Belongs here: names of rules. Not here: what a rule tests.
"""

from __future__ import annotations

from typing import Literal, get_args

RuleCode = Literal[
    "refusal",
    "as_an_ai",
    "template_echo",
    "task_echo",
    "other_script",
    "other_language",
    "label_in_text",
    "query_in_negative",
    "same_query_negative",
    "same_positive_negative",
    "too_short",
    "too_long",
    "label_too_long",
    "topic_not_named",
    "unfinished",
    "noise",
    "markup",
    "about_the_document",
    "personal_data",
    "repetition",
    "query_in_positive",
    "repeated_negative",
    "negative_is_positive",
    "unspecific_query",
    "unlike_passage",
    "label_not_named",
]


RULE_CODES: tuple[RuleCode, ...] = get_args(RuleCode)


RULES_ACROSS_ROWS: tuple[RuleCode, ...] = ("repeated_negative", "negative_is_positive")
"""Rules that compare the rows of one query. They are tested after near-duplicates are removed."""
