"""What is no training row, whoever wrote it: refusals, echoes, given-away labels, copied queries, other languages.

Each rule has a code that never changes its meaning. A rule sees the columns task_type, task, query, positive and
negative of many rows at once; what only Python can tell exactly is asked of the few rows that a first look suspects.

Belongs here: rules on one row. Not here: rows that repeat others (`near_duplicates.py`, `contamination.py`), and
whether a text is right (the judge).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import polars as pl

from speed_assets.domain.answer_lengths import words_asked
from speed_assets.domain.attributes import draw_attributes
from speed_assets.domain.fingerprints import seed_for
from speed_assets.domain.parsing import QUERY_WORDS_LEAST, folded, stands_in
from speed_assets.domain.rows import may_be_the_same, may_stand_in
from speed_assets.domain.task_types import TRIPLET_FIELDS

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
]
RULE_CODES: tuple[RuleCode, ...] = get_args(RuleCode)

_WRITE = r"(?:help|assist|provide|generate|create|write|fulfil|comply|complete|produce|answer|do that)"
_NOT = r"(?:can[\u2019']t|cannot|can not|am unable|[\u2019']m unable|am not able|[\u2019']m not able|won[\u2019']t|will not)"
_REFUSAL = (
    rf"(?i)^\W{{0,5}}(?:(?:i[\u2019']m |i am )?(?:very |so |truly )?sorry|i apologi[sz]e|unfortunately|as an ai)[^.]{{0,60}}"
    rf"\b{_NOT}\b[^.]{{0,60}}\b{_WRITE}"
    rf"|^\W{{0,5}}i {_NOT}(?: to)? {_WRITE}"
)
_AS_AN_AI = (
    r"(?i)\bas an? (?:ai|artificial intelligence|large language|language) (?:language )?(?:model|assistant)?,? ?i\b"
    r"|\bi am an? (?:ai|large) language model\b|\bi'm an? (?:ai|large) language model\b"
)
_SLOTS = "task|topic|query|text|document|label|language|value|unit|clarity|difficulty|query_type|query_length"
_TEMPLATE = (
    r"(?-u:\b)(?:user_query|positive_document|hard_negative_document|input_text|misleading_label)(?-u:\b)"
    rf"|\{{\{{? ?(?:{_SLOTS}) ?\}}?\}}"
    r"|[<\[](?:[Yy]our|[Ii]nsert|YOUR|INSERT) [^>\]\n]{1,40}[>\]]|[Ll]orem ipsum"
)
_FUNCTION_WORD = r"(?i)(?-u:\b)(?:the|and|of|with|that|this|are|was|from|for|to|is|it|an|you|your)(?-u:\b)"
_OTHER_SCRIPT = r"[\p{L}--\p{Latin}]"


def broken_rules(
    rows: pl.DataFrame,
    *,
    skip: tuple[str, ...] = (),
    language_characters_min: int,
    other_script_max: float,
    length_tolerance: float | None = None,
    label_words_max: int | None = None,
    topic_words_min: float = 0.0,
    seed: int = 0,
) -> pl.DataFrame:
    """(reason, detail) of each row: the first rule that it breaks and the field that does; null where none is broken.

    `seed` is that of the recipe, from which the lengths asked for are drawn again. The rules are in the order of
    `RULE_CODES`.
    """
    fields = [pl.col(field) for field in TRIPLET_FIELDS]
    label = pl.col("task_type") == "classification"
    query, positive, negative = fields

    def any_field(test: Callable[[pl.Expr], pl.Expr]) -> dict[str, pl.Expr]:
        return {field: test(pl.col(field)) for field in TRIPLET_FIELDS}

    task = pl.col("task").str.to_lowercase().str.strip_chars()
    rules: dict[str, dict[str, pl.Expr]] = {
        "refusal": any_field(lambda text: text.str.contains(_REFUSAL)),
        "as_an_ai": any_field(lambda text: text.str.contains(_AS_AN_AI)),
        "template_echo": any_field(lambda text: text.str.contains(_TEMPLATE)),
        "task_echo": {
            "query": query.str.to_lowercase() == task,
            "positive": ~label & (positive.str.to_lowercase() == task),
        },
        "other_script": any_field(
            lambda text: (
                (text.str.len_bytes() != text.str.len_chars())
                & (text.str.count_matches(r"[\p{L}--\p{Latin}]") > other_script_max * text.str.len_chars())
            )
        ),
        "other_language": any_field(
            lambda text: (text.str.len_chars() >= language_characters_min) & ~text.str.contains(_FUNCTION_WORD)
        ),
    }
    if label_words_max is not None:
        rules["label_too_long"] = {
            field: label & (pl.col(field).str.count_matches(r"\S+") > label_words_max)
            for field in ("positive", "negative")
        }
    if topic_words_min:
        topic = _words(pl.col("topic").str.extract(r"([^/]*)$")).list.unique()
        rules["topic_not_named"] = {
            field: (pl.lit(field == "query") | ~label)
            & (topic.list.set_intersection(_words(pl.col(field))).list.len() < topic_words_min * topic.list.len())
            for field in TRIPLET_FIELDS
        }
    exact: dict[str, tuple[pl.Expr, str, Callable[[str, str, str], bool]]] = {
        "label_in_text": (
            label & may_stand_in(positive, query),
            "query",
            lambda query, positive, negative: stands_in(positive, query, 1),
        ),
        "query_in_negative": (
            ~label & may_stand_in(query, negative),
            "negative",
            lambda query, positive, negative: stands_in(query, negative, QUERY_WORDS_LEAST),
        ),
        "same_query_negative": (
            may_be_the_same(query, negative),
            "negative",
            lambda query, positive, negative: folded(query) == folded(negative),
        ),
        "same_positive_negative": (
            ~label & may_be_the_same(positive, negative),
            "negative",
            lambda query, positive, negative: folded(positive) == folded(negative),
        ),
    }
    told_at_once = [
        (code, field, test) for code, tests in rules.items() if code not in skip for field, test in tests.items()
    ]
    found = [pl.when(test).then(pl.lit(number, dtype=pl.UInt8)) for number, (_, _, test) in enumerate(told_at_once)]
    suspects = [(code, *rule) for code, rule in exact.items() if code not in skip]
    # Lazily, so that what several rules look at is made once.
    looks = rows.lazy().with_columns(
        pl.coalesce(*found, pl.lit(None, dtype=pl.UInt8)).alias("found"),
        *(suspect.fill_null(False).alias(code) for code, suspect, _, _ in suspects),
    )
    checked = looks.select("found", *(code for code, *_ in suspects)).collect()
    texts = [rows[field] for field in TRIPLET_FIELDS]
    told: dict[int, tuple[str, str]] = {}
    for code, _, field, really in suspects:
        for row in checked[code].arg_true():
            of_row = [column[row] for column in texts]
            if row not in told and really(*(text or "" for text in of_row)):
                told[row] = (code, field)
    number = checked["found"]
    reasons = pl.DataFrame(
        {
            "reason": pl.Series([code for code, _, _ in told_at_once], dtype=pl.String).gather(number),
            "detail": pl.Series([field for _, field, _ in told_at_once], dtype=pl.String).gather(number),
        }
    )
    if told:
        later = pl.DataFrame(
            [(row, *why) for row, why in told.items()], schema=["row", "late", "late_detail"], orient="row"
        )
        reasons = (
            reasons.with_row_index("row")
            .with_columns(pl.col("row").cast(pl.Int64))
            .join(later, on="row", how="left", maintain_order="left")
            .select(
                pl.coalesce("reason", "late").alias("reason"),
                pl.when(pl.col("reason").is_null()).then("late_detail").otherwise("detail").alias("detail"),
            )
        )
    if length_tolerance is None or {"too_short", "too_long"} <= {*skip}:
        return reasons
    lengths = _wrong_lengths(rows, length_tolerance, seed, skip)
    return pl.concat([reasons, lengths], how="horizontal").select(
        pl.coalesce("reason", "length_reason").alias("reason"),
        pl.when(pl.col("reason").is_null()).then("length_detail").otherwise("detail").alias("detail"),
    )


def _words(text: pl.Expr) -> pl.Expr:
    """The words of a text, in lower case and without the marks on letters."""
    plain = text.str.normalize("NFKD").str.replace_all(r"\p{M}", "").str.to_lowercase().str.replace_all("_", " ")
    return plain.str.extract_all(r"[\p{L}\p{N}]+")


def _wrong_lengths(rows: pl.DataFrame, tolerance: float, seed: int, skip: tuple[str, ...]) -> pl.DataFrame:
    """(length_reason, length_detail): texts far from the length that their prompt asked for."""
    asked: list[dict[str, float | None]] = []
    for row_id, task_type in rows.select("row_id", "task_type").iter_rows():
        drawn = draw_attributes(task_type, seed_for(seed, "attributes", row_id))
        of_query = words_asked(drawn.get("query_length", drawn.get("text_length", "")))
        of_document = words_asked(drawn.get("document_length", ""))
        asked.append(
            {
                f"{field}_{bound}": value
                for field, (least, most) in (("query", of_query), ("positive", of_document), ("negative", of_document))
                for bound, value in (("least", least * tolerance), ("most", most and most / tolerance))
            }
        )
    schema = {f"{field}_{bound}": pl.Float64 for field in TRIPLET_FIELDS for bound in ("least", "most")}
    bounds = pl.concat([rows.select(TRIPLET_FIELDS), pl.DataFrame(asked, schema=schema)], how="horizontal")
    found = [
        pl.when(test).then(pl.struct(pl.lit(code).alias("length_reason"), pl.lit(field).alias("length_detail")))
        for field in TRIPLET_FIELDS
        for code, test in (
            ("too_short", pl.col(field).str.count_matches(r"\S+") < pl.col(f"{field}_least")),
            ("too_long", pl.col(field).str.count_matches(r"\S+") > pl.col(f"{field}_most")),
        )
        if code not in skip
    ]
    none = pl.lit(None, dtype=pl.Struct({"length_reason": pl.String, "length_detail": pl.String}))
    return bounds.with_columns(pl.coalesce(*found, none).alias("found"))["found"].struct.unnest()
