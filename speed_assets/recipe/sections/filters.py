"""The filters of final_triplets: rules, scores, near-duplicates, contamination, and what is readmitted."""

from __future__ import annotations

from typing import Annotated

from pydantic import (
    Field,
    model_validator,
)

from speed_assets.domain.graph import DataSource
from speed_assets.domain.rules import RULE_CODES, RuleCode
from speed_assets.domain.task_types import TaskTypeName
from speed_assets.recipe.section import Count, PerTaskType, Positive, Rate, Section, Share


class Rules(Section):
    """What is no training row whatever a model may learn from it. All numbers are ours."""

    skip: tuple[RuleCode, ...] = ()
    """Codes of rules that are not applied."""
    languages: Annotated[tuple[str, ...], Field(min_length=1)] = ("en",)
    """ISO 639-1 codes of the languages that rows are written in."""
    language_confidence: Share | None = None
    """Probability of another language, by the identifier, from which on a text is set aside; null does not ask, which a world
    of its own words needs. 0.98 sets 3 of 13,000 human English texts aside and finds 99.8 % of others (docs/filters.md)."""
    language_characters_min: Positive = 30
    """Bytes of plain words from which on a language can be told."""
    other_script_max: Share = 0.3
    """Largest share of a text's characters that may be letters of scripts in which none of the languages is written."""
    query_words_min: Positive = 8
    """A query of so many words that stands whole in its positive is a copied one; shorter ones are names and phrases."""
    length_tolerance: Annotated[float, Field(gt=0, le=1)] | None = None
    """A text may have this share of the fewest words that its prompt asked for, and the most divided by it (documents are
    asked for with at least so many words and have no most); null takes any length."""
    label_words_max: Positive | None = None
    """Most words of a classification label; null takes any length."""
    topic_words_min: Share = 0.0
    """Smallest share of the words of the topic (its last level) that every text of a row must hold, labels aside."""


class Calibration(Section):
    """How rows are set aside by all scores together, from the verdicts of `row_verdicts`: a fit tells how likely a row is
    faulty (`domain/calibration.py`). All numbers are ours, chosen on seeds 1 and 7 of the microworld."""

    wrong_min: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """A row is set aside from this likelihood of being faulty on: at the bound, four good rows are given up for one that
    is faulty, and fewer beyond it."""
    odds_min: Annotated[float, Field(ge=1)] = 1.5
    """And if its odds are at least this many times those of all rows: a teacher that would mend every second row is
    not to have every second row set aside."""
    loss_max: Share = 0.07
    """Share of the good rows that this may cost, as estimated on rows that the fit did not see."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Of the test whether a score tells faulty rows from others (it is left out otherwise), and of intervals."""
    ridge: Rate = 1.0
    """Penalty on the slope of a score and on what a task type is faulty more or less often: half of this times its square,
    where a row's log-likelihood counts 1."""
    ridge_by_type: Rate = 16.0
    """The same on what a task type's slope is more or less than that: the larger, the more task types learn together."""


class Scores(Section):
    """Rows set aside for their scores: by verdicts of the teacher on this run's rows (`calibration`), or beyond bounds that
    are numbers. What is right for one model, seed or language is not for the next, so numbers are for whoever has
    measured them on rows of the same kind. Null asks nothing of a score. All numbers are ours."""

    calibration: Calibration | None = None
    """Null sets no row aside by its likelihood of being faulty."""
    least_likely_min: Annotated[float, Field(le=0)] | None = None
    """Natural log-probability of the least likely token of what a row says, under the model that wrote it."""
    swapped_max: Annotated[float, Field(le=0)] | None = None
    """The same of the negative, had it been written as the positive: above, the negative answers the query as well."""
    role_min: Share | None = None
    """Probability that each text stands where such texts stand: a query where queries are."""
    margin_min: Annotated[float, Field(ge=-1, le=1)] | None = None
    """Probability that the positive fits the query less the probability that the negative does."""


class NearDuplicates(Section):
    """Of rows that say the same the best one stays. The paper names MinHash and gives no numbers: all are ours."""

    shingle: Positive = 5
    """Characters in a shingle."""
    permutations: Positive = 128
    """Hashes in a sketch."""
    jaccard: Share = 0.9
    """Rows whose query and positive together are at least this similar are one row."""
    query_least: Share | None = None
    """Rows are one row only if their queries alone are at least this similar, too: other questions on one paragraph are other
    rows. Of classification the query alone is then compared, at `jaccard`: of ten thousand texts with one label each is a row
    of its own. Null compares query and positive together, also a label."""
    same_positive_query_least: Share = 0.9
    """`query_least` of rows whose positive is the same, word for word."""
    short_words: Count = 0
    """Texts of fewer words have to reach `short_jaccard`: one other word makes another text of them; 0 makes no difference."""
    short_jaccard: Share = 0.95
    """See `short_words`."""
    query_jaccard: Share | None = None
    """Queries at least this similar make one row of two, whatever their positives; null does not compare them."""
    positive_jaccard: Share | None = None
    """The same for positives."""
    words_min: Count = 12
    """Queries and positives of fewer words are not compared by themselves: labels, short questions."""
    boilerplate: Share = 0.01
    """Shingles in at least this share of the rows are boilerplate: rows must be similar without them, too."""
    semantic: Share | None = None
    """Cosine similarity (of `row_scores.embedder`) from which on two rows say the same; null does not ask."""


class Contamination(Section):
    """Rows that hold text of an evaluation set are removed. The paper describes no such step: all numbers are ours."""

    ngram: Positive = 8
    """Words in an n-gram."""
    containment: Share = 0.6
    """Share of the row's n-grams in an evaluation set, or of an evaluation text's n-grams in the row."""
    words_min: Count = 10
    """Shorter texts are only held against evaluation sets as a whole: one other word is another meaning."""
    neighbour: Share | None = 0.85
    """Share of words in the same order that an edited copy has in common with an evaluation text; null does not look."""
    similarity: Share | None = None
    """Cosine similarity (of `row_scores.embedder`) from which on a text says what an evaluation text says; null does not
    ask."""


class Diversity(Section):
    """How diversity is measured: on samples, so that a million rows cost what these cost. Nothing is removed for it, and
    all numbers are ours. Shares of distinct n-grams and scores per row fall as samples grow: compare like with like."""

    rows_max: Positive = 5_000
    """Rows whose n-grams and attributes are counted at most."""
    vendi_rows_max: Positive = 1_000
    """Rows of the Vendi score at most: seconds grow with their cube, memory with their square (8 MB for 1,000)."""
    intended: PerTaskType | None = None
    """Intended parts of the task types, of any scale (paper: 7:7:7:2, matching together); null takes the rows asked for."""


READMITTABLE: tuple[str, ...] = (
    *RULE_CODES,
    "doubted",
    "unlikely",
    "negative_answers",
    "wrong_role",
    "negative_fits",
    "near_duplicate",
    "near_duplicate_query",
    "near_duplicate_positive",
    "near_duplicate_semantic",
)
"""Reasons of final_triplets that rows may be readmitted for: all but those of rows that are not whole or contaminated."""


class Readmit(Section):
    """Rows that a filter finds for this reason pass it all the same; the filters after it are asked as ever."""

    reason: str
    """The reason in the quarantine of final_triplets (`speed quarantine`)."""
    task_type: TaskTypeName | None = None
    """Only rows of this task type; null is any."""
    row_ids: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Only these rows; null is any."""

    @model_validator(mode="after")
    def _may(self) -> Readmit:
        if self.reason == "not_whole" or self.reason.startswith("contamination"):
            why = "lack a text" if self.reason == "not_whole" else "hold text that the model is scored on"
            raise ValueError(f"reason={self.reason} cannot be readmitted: such rows {why}; remove this rule")
        if self.reason not in READMITTABLE:
            raise ValueError(
                f"reason={self.reason} is no reason of final_triplets; give one of {', '.join(READMITTABLE)}"
            )
        return self


class FinalTriplets(Section):
    source: DataSource = "revised_data"
    """The table that triplets are made from; `seed_data` is the teacher-only way."""
    rules: Rules = Rules()
    scores: Scores = Scores()
    near_duplicates: NearDuplicates = NearDuplicates()
    contamination: Contamination = Contamination()
    readmit: tuple[Readmit, ...] = ()
    """Rules that let rows in which a filter would set aside."""
    diversity: Diversity = Diversity()
