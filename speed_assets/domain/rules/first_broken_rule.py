"""The first rule that each row breaks.

Belongs here: the order of the rules. Not here: what a rule tests (`field_tests.py`, `exact_tests.py`, `lengths.py`).
"""

from __future__ import annotations

import polars as pl

from speed_assets.domain.rules.exact_tests import exact_tests, first_broken
from speed_assets.domain.rules.field_tests import FieldTests, field_tests
from speed_assets.domain.rules.languages import LanguagesByField, languages_by_field
from speed_assets.domain.rules.lengths import wrong_lengths


def first_broken_rules(
    rows: pl.DataFrame,
    *,
    skip: tuple[str, ...] = (),
    languages: tuple[str, ...] = ("en",),
    document_languages: tuple[str, ...] | None = None,
    language_characters_min: int = 30,
    language_confidence: float | None = None,
    other_script_max: float,
    query_words_min: int = 8,
    length_tolerance: float | None = None,
    label_words_max: int | None = None,
    topic_words_min: float = 0.0,
    seed: int = 0,
) -> pl.DataFrame:
    """The first rule that each row breaks.

    Rules are in the order of `RULE_CODES` within three groups: those that an expression decides, those that need Python,
    and lengths.

    Args:
        rows: row_id, task_type, topic, task, query, positive, negative.
        skip: Codes of rules that are not tested.
        languages: ISO 639-1 codes of the languages that rows are to be written in; of queries alone where `document_languages` are given.
        document_languages: The same of positives and negatives; None is `languages`.
        language_characters_min: Bytes of plain words that a text needs for its language to be detected.
        language_confidence: Probability of another language from which on a text is rejected; None skips the test.
        other_script_max: Share of the characters that may be letters of scripts in which none of `languages` is written.
        query_words_min: Words of a query that may not occur in its positive.
        length_tolerance: See `recipe.Rules`; None takes any length.
        label_words_max: Most words of a label; None takes any.
        topic_words_min: Share of the topic's words that every text holds.
        seed: Of the recipe, from which the lengths asked for are drawn again.

    Returns:
        (reason, detail) of each row, in their order: the code and the field that breaks the rule; null where none is broken.
    """
    of_field = languages_by_field(languages, document_languages)
    decided = field_tests(
        rows,
        skip=skip,
        languages=of_field,
        language_characters_min=language_characters_min,
        language_confidence=language_confidence,
        other_script_max=other_script_max,
        label_words_max=label_words_max,
        topic_words_min=topic_words_min,
    )
    reasons = _with_exact(
        rows, {code: of for code, of in decided.items() if code not in skip}, skip, query_words_min, of_field
    )
    if length_tolerance is None or {"too_short", "too_long"} <= {*skip}:
        return reasons
    return _first_of(reasons, wrong_lengths(rows, length_tolerance, seed, skip, of_field))


def _with_exact(
    rows: pl.DataFrame, decided: FieldTests, skip: tuple[str, ...], query_words_min: int, languages: LanguagesByField
) -> pl.DataFrame:
    """(reason, detail) by the expressions that decide and, where none is broken, by the exact tests."""
    tests = [(code, field, test) for code, of_code in decided.items() for field, test in of_code.items()]
    exact = [test for test in exact_tests(query_words_min, languages) if test.code not in skip]
    numbers = [pl.when(test).then(pl.lit(number, dtype=pl.UInt8)) for number, (*_, test) in enumerate(tests)]
    # Lazily, so that what several tests share is computed once.
    found = (
        rows.lazy()
        .with_columns(
            pl.coalesce(*numbers, pl.lit(None, dtype=pl.UInt8)).alias("found"),
            *(test.suspects.fill_null(False).alias(test.column) for test in exact),
        )
        .select("found", *(test.column for test in exact))
        .collect()
    )
    reasons = pl.DataFrame(
        {
            "reason": pl.Series([code for code, *_ in tests], dtype=pl.String).gather(found["found"]),
            "detail": pl.Series([field for _, field, _ in tests], dtype=pl.String).gather(found["found"]),
        }
    )
    late = first_broken(rows, found, exact)
    if not late:
        return reasons
    later = pl.DataFrame(
        {
            name: pl.repeat(None, rows.height, dtype=pl.String, eager=True).scatter(list(late), values)
            for name, values in zip(("reason", "detail"), zip(*late.values(), strict=True), strict=True)
        }
    )
    return _first_of(reasons, later)


def _first_of(reasons: pl.DataFrame, others: pl.DataFrame) -> pl.DataFrame:
    """(reason, detail) of the first frame, and of the other where the first has no reason."""
    later = others.select(pl.nth(0).alias("other_reason"), pl.nth(1).alias("other_detail"))
    return pl.concat([reasons, later], how="horizontal").select(
        pl.coalesce("reason", "other_reason").alias("reason"),
        pl.when(pl.col("reason").is_null()).then("other_detail").otherwise("detail").alias("detail"),
    )
