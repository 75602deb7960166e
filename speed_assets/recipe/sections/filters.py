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
from speed_assets.recipe.section import NUMBER_MAX, Count, PerTaskType, Positive, Rate, Section, Share


class Rules(Section):
    """Rules that reject a row whatever its scores. All numbers are ours."""

    skip: tuple[RuleCode, ...] = ()
    """Codes of rules that are not applied."""
    languages: Annotated[tuple[str, ...], Field(min_length=1)] = ("en",)
    """ISO 639-1 codes of the languages that rows are written in."""
    language_confidence: Share | None = None
    """Probability of another language, from the language identifier, above which a text is rejected; null turns the rule off,
    which invented words need. 0.98 rejects 3 of 13,000 human English texts and finds 99.8 % of others (docs/filters.md)."""
    language_characters_min: Positive = 30
    """Minimum bytes of plain words for the language of a text to be identified."""
    other_script_max: Share = 0.3
    """Maximum share of a text's characters that may be letters of scripts in which none of the languages is written."""
    query_words_min: Positive = 8
    """A query of at least this many words that its positive contains word for word is a copy; shorter ones are names and phrases."""
    length_tolerance: Annotated[float, Field(gt=0, le=1)] | None = None
    """Shortest text, as a share of the fewest words that its prompt asked for; the longest is the most words divided by it
    (prompts for documents name no maximum). null accepts any length."""
    label_words_max: Positive | None = None
    """Maximum words of a classification label; null accepts any length."""
    topic_words_min: Share = 0.0
    """Minimum share of the topic's words (its last level) that every text of a row must contain, except labels."""


class Calibration(Section):
    """Rejects rows by all scores together: a model fitted to the verdicts of `row_verdicts` estimates how likely a row is
    faulty (`domain/calibration.py`). All numbers are ours, chosen on seeds 1, 7 and 101 to 105 of the microworld."""

    wrong_min: Annotated[float, Field(gt=0, lt=1)] = 0.2
    """Likelihood of being faulty from which on a row is rejected: at 0.2 four good rows are lost for one faulty row, and
    fewer above it."""
    odds_min: Annotated[float, Field(ge=1, le=NUMBER_MAX)] = 3.0
    """Minimum odds of the rejected rows together, as a multiple of the odds of all rows: the faults of a teacher that would
    mend every second row do not show in the scores, and must not cause every second row to be rejected."""
    loss_max: Share = 0.07
    """Maximum share of the good rows that may be lost, estimated on rows that the fit did not see."""
    loss_per_faulty: Share = 0.56
    """Good rows that may be lost for each faulty row among the judged ones, where that is more than `loss_max`: a table of
    which a quarter is faulty may lose 14 % of its good rows. 0 always keeps to `loss_max`."""
    confidence: Annotated[float, Field(gt=0.5, lt=1)] = 0.95
    """Confidence of intervals, and of the test whether a score separates faulty rows from others; a score that does not is left
    out."""
    ridge: Rate = 1.0
    """Ridge penalty on the slope of a score and on the intercept of a task type: half of this times its square, where the
    log-likelihood of a row counts 1."""
    ridge_by_type: Rate = 16.0
    """Ridge penalty on the difference of a task type's slope from the common one: the larger, the more task types share."""


class Scores(Section):
    """Rejects rows for their scores: by verdicts of the teacher on rows of this run (`calibration`), or by fixed bounds. A
    bound that suits one model, seed or language does not suit the next, so set one only where you measured it on rows of
    the same kind. null turns a bound off. All numbers are ours."""

    calibration: Calibration | None = None
    """null rejects no row for its likelihood of being faulty."""
    least_likely_min: Annotated[float, Field(le=0)] | None = None
    """Minimum of the natural log-probability of a row's least likely token, under the model that wrote it."""
    swapped_max: Annotated[float, Field(le=0)] | None = None
    """Maximum of the same for the negative, read as if it were the positive: above it, the negative answers the query, too."""
    role_min: Share | None = None
    """Minimum probability that each text has the role of its place: that a query reads like a query."""
    margin_min: Annotated[float, Field(ge=-1, le=1)] | None = None
    """Minimum of the probability that the positive fits the query, less that of the negative."""


class NearDuplicates(Section):
    """Near-duplicates: of rows that repeat each other the best one is kept. The paper names MinHash and gives no numbers: all are
    ours."""

    shingle: Positive = 5
    """Characters of a shingle."""
    permutations: Positive = 128
    """Hashes of a MinHash sketch."""
    jaccard: Share = 0.9
    """Minimum Jaccard similarity of near-duplicates, query and positive together."""
    query_least: Share | None = None
    """Minimum similarity of the queries of near-duplicates, too: two questions on one paragraph are two rows. For
    classification only the query is then compared, at `jaccard`, since thousands of texts share a label. null compares
    query and positive together, also for classification."""
    same_positive_query_least: Share = 0.9
    """`query_least` for rows whose positives are equal word for word."""
    short_words: Count = 0
    """Texts of fewer words must reach `short_jaccard`, since one word changes what they say; 0 turns this off."""
    short_jaccard: Share = 0.95
    """Minimum similarity of texts below `short_words`."""
    query_jaccard: Share | None = None
    """Minimum similarity of near-duplicate queries, whatever the positives; null does not compare queries alone."""
    positive_jaccard: Share | None = None
    """The same for positives."""
    words_min: Count = 12
    """Queries and positives of fewer words are not compared alone: labels, short questions."""
    boilerplate: Share = 0.01
    """Shingles in at least this share of the rows are boilerplate; near-duplicates must be similar without them, too."""
    semantic: Share | None = None
    """Cosine similarity (of `row_scores.embedder`) from which on two rows are near-duplicates; null turns this off."""


class Contamination(Section):
    """Rejects rows that contain text of an evaluation set. The paper describes no such step: all numbers are ours."""

    ngram: Positive = 8
    """Words of an n-gram."""
    containment: Share = 0.6
    """Minimum share of the row's n-grams in an evaluation set, or of an evaluation text's n-grams in the row."""
    words_min: Count = 10
    """Texts of fewer words are contaminated only by an equal text, since one word changes what they say."""
    neighbour: Share | None = 0.85
    """Minimum share of words that an edited copy has in common with an evaluation text, in the same order; null does not search
    for edited copies."""
    similarity: Share | None = None
    """Cosine similarity (of `row_scores.embedder`) from which on a text paraphrases an evaluation text; null turns this off."""


class Diversity(Section):
    """How diversity is measured: on samples, so that the cost does not grow with the rows. It removes nothing, and all numbers
    are ours. Distinct n-grams and scores per row fall as samples grow: compare samples of equal size."""

    rows_max: Positive = 5_000
    """Maximum rows whose n-grams and attributes are counted."""
    vendi_rows_max: Positive = 1_000
    """Maximum rows of the Vendi score: time grows with their cube, memory with their square (8 MB for 1,000)."""
    intended: PerTaskType | None = None
    """Intended proportions of the task types (paper: 7:7:7:2, both matching types together); null takes the rows asked for."""


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
"""Reasons of final_triplets that rows may be readmitted for: all but those of invalid or contaminated rows."""


class Readmit(Section):
    """Lets rows pass a filter that would reject them; later filters apply as usual."""

    reason: str
    """Reason in the quarantine of final_triplets (`speed quarantine`)."""
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


class Wanted(Section):
    """Rows that are to pass the filters, in place of rows to write: further blocks are written until they do. It changes no row:
    fingerprints have the number of rows of the current block."""

    rows: PerTaskType
    """Rows of each task type that final_triplets is to have; 0 takes those that come out."""
    candidates_max: PerTaskType
    """Maximum rows asked for in all blocks. Where it is met, the run goes on with the rows that there are, and says so."""
    blocks_max: Annotated[int, Field(ge=2, le=100)] = 6
    """Maximum blocks, the first included (ours)."""
    margin: Annotated[float, Field(ge=1, le=10)] = 1.1
    """What the missing rows are multiplied by, next to the share that was accepted so far: later rows repeat earlier ones more
    often (ours)."""


class FinalTriplets(Section):
    LEFT_OUT = ("wanted",)

    source: DataSource = "revised_data"
    """The table that triplets are made from; `seed_data` is the teacher-only way."""
    rules: Rules = Rules()
    scores: Scores = Scores()
    near_duplicates: NearDuplicates = NearDuplicates()
    contamination: Contamination = Contamination()
    readmit: tuple[Readmit, ...] = ()
    """Exceptions: rows that pass although a filter would reject them."""
    diversity: Diversity = Diversity()
    wanted: Wanted | None = None
    """Rows that are to pass, and the ceiling on rows written for them; null takes those that come out of the rows asked for."""
