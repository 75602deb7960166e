"""What is no training row, whoever wrote it: refusals, echoes, given-away labels, copied queries, noise, loops, other languages.

Each rule has a code that never changes its meaning. A rule sees the columns task_type, task, query, positive and
negative of many rows at once; what only Python can tell exactly is asked of the few rows that a first look suspects.
A rule is for what a writer of rows does wrong. What people write passes: `benchmarks/human_rows.py` counts.

Belongs here: which fields of which rows a rule asks. Not here: what it looks for in a text (`row_patterns.py`, `noise.py`,
`language.py`), rows that repeat others (`near_duplicates.py`, `contamination.py`), whether a text is right (the judge).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import polars as pl

from speed_assets.domain import row_patterns as patterns
from speed_assets.domain.answer_lengths import words_asked
from speed_assets.domain.attributes import draw_attributes
from speed_assets.domain.fingerprints import seed_for
from speed_assets.domain.language import foreign
from speed_assets.domain.noise import MASH_LONGEST, SUSPECT, SUSPECT_MASH, is_noise
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
    "unfinished",
    "noise",
    "markup",
    "about_the_document",
    "personal_data",
    "repetition",
    "query_in_positive",
    "repeated_negative",
    "negative_is_positive",
]
RULE_CODES: tuple[RuleCode, ...] = get_args(RuleCode)
BESIDE_ROWS: tuple[RuleCode, ...] = ("repeated_negative", "negative_is_positive")
"""Rules that look at the other rows of a query: asked of rows without near-duplicates."""

UNFINISHED_WORDS = 20
"""Texts of at most so many words are headlines, queries and labels, which need no end. Given with the rule."""
_NAMED_RUNS, _NAMED_MOST = 2, 0.5
"""Words of another script, and their share of the characters, up to which a text may name them. Ours."""
_ABOUT_LANGUAGES = (
    r"(?i)\b(?:translat\w*|languages?|multilingual|bilingual|english|german|french|spanish|italian|portuguese|dutch|russian|chinese"
    r"|japanese|korean|arabic|hindi|latin|greek|hebrew|turkish|polish|loanwords?|foreign words?)\b"
)
"""Tasks whose rows may well hold other languages."""
_SCRIPTS = {
    "ar": "Arabic", "be": "Cyrillic", "bg": "Cyrillic", "bn": "Bengali", "el": "Greek", "fa": "Arabic", "gu": "Gujarati",
    "he": "Hebrew", "hi": "Devanagari", "hy": "Armenian", "ja": "Han}\\p{Hiragana}\\p{Katakana", "ka": "Georgian",
    "kk": "Cyrillic", "km": "Khmer", "kn": "Kannada", "ko": "Hangul", "lo": "Lao", "mk": "Cyrillic", "ml": "Malayalam",
    "mn": "Cyrillic", "mr": "Devanagari", "ne": "Devanagari", "or": "Oriya", "pa": "Gurmukhi", "ru": "Cyrillic",
    "si": "Sinhala", "sr": "Cyrillic", "ta": "Tamil", "te": "Telugu", "th": "Thai", "uk": "Cyrillic", "ur": "Arabic",
    "zh": "Han",
}  # fmt: skip
"""Scripts of languages that are not written in Latin letters, as a character class names them."""


def broken_rules(
    rows: pl.DataFrame,
    *,
    skip: tuple[str, ...] = (),
    languages: tuple[str, ...] = ("en",),
    language_characters_min: int = 30,
    language_confidence: float | None = None,
    other_script_max: float,
    query_words_min: int = 8,
    length_tolerance: float | None = None,
    label_words_max: int | None = None,
    topic_words_min: float = 0.0,
    seed: int = 0,
) -> pl.DataFrame:
    """(reason, detail) of each row: the first rule that it breaks and the field that does; null where none is broken.

    Args:
        rows: row_id, task_type, topic, task, query, positive, negative.
        skip: Codes that are not asked for.
        languages: ISO 639-1 codes of the languages that rows are to be written in.
        language_characters_min: Bytes of plain words from which on a text has a language that can be told.
        language_confidence: Probability of another language from which on a text is set aside; None does not ask.
        other_script_max: Share of the characters that may be letters of scripts in which none of `languages` is written.
        query_words_min: Words of a query that may not stand in its positive.
        length_tolerance: See `recipe.Rules`; None takes any length.
        label_words_max: Most words of a label; None takes any.
        topic_words_min: Share of the topic's words that every text holds.
        seed: Of the recipe, from which the lengths asked for are drawn again.

    Rules are in the order of `RULE_CODES` within three groups: what an expression tells, what needs a second look, lengths.
    """
    fields = [pl.col(field) for field in TRIPLET_FIELDS]
    label = pl.col("task_type") == "classification"
    query, positive, negative = fields

    def any_field(test: Callable[[pl.Expr], pl.Expr]) -> dict[str, pl.Expr]:
        return {field: test(pl.col(field)) for field in TRIPLET_FIELDS}

    def documents(test: Callable[[pl.Expr], pl.Expr]) -> dict[str, pl.Expr]:
        return {field: ~label & test(pl.col(field)) for field in ("positive", "negative")}

    task = pl.col("task").str.to_lowercase().str.strip_chars()
    plain_task = ~pl.col("task").fill_null("").str.contains(patterns.MARKUP_IS_SUBJECT)
    rules: dict[str, dict[str, pl.Expr]] = {
        "refusal": any_field(lambda text: text.str.contains(patterns.REFUSAL)),
        "as_an_ai": any_field(_as_an_ai),
        "template_echo": {
            "query": query.str.contains(patterns.TEMPLATE) | query.str.contains(patterns.PLACEHOLDER),
            **{
                name: pl.col(name).str.contains(patterns.TEMPLATE)
                | pl.when(label)
                .then(pl.col(name).str.contains(patterns.LABEL_TEMPLATE))
                .otherwise(pl.col(name).str.contains(patterns.PLACEHOLDER))
                for name in ("positive", "negative")
            },
        },
        "task_echo": {
            "query": query.str.to_lowercase() == task,
            "positive": ~label & (positive.str.to_lowercase() == task),
        },
        "other_script": _other_script(languages, other_script_max),
        "same_positive_negative": {"negative": _same_label(label, positive, negative)},
    }
    if language_confidence is not None and "other_language" not in skip:
        rules["other_language"] = _other_language(rows, languages, language_characters_min, language_confidence)
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
    rules |= {
        "unfinished": {"query": _unfinished(query, sentences=False)}
        | documents(lambda text: _unfinished(text, sentences=True)),
        "markup": any_field(lambda text: text.str.contains(patterns.MARKUP) & plain_task),
        "about_the_document": {
            "query": _opened(query),
            **{name: _opened(pl.col(name)) | (~label & _about(pl.col(name))) for name in ("positive", "negative")},
        },
        **_beside_other_rows(rows, skip),
    }
    exact: dict[str, tuple[pl.Expr, str, Callable[[str, str, str], bool]]] = {
        "label_in_text": (
            label & may_stand_in(positive, query),
            "query",
            lambda query, positive, negative: patterns.given_away(positive, query),
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
        "query_in_positive": (
            ~label
            & (pl.col("task_type") != "sts")
            & (query.str.count_matches(" ", literal=True) >= query_words_min - 1)
            & may_stand_in(query, positive),
            "positive",
            lambda query, positive, negative: stands_in(query, positive, query_words_min),
        ),
    }
    for number, field in enumerate(TRIPLET_FIELDS):
        text = pl.col(field)
        mashed = _where(text.str.len_bytes() <= MASH_LONGEST, text).str.contains(SUSPECT_MASH).fill_null(False)
        exact[f"noise {field}"] = (
            text.str.contains(SUSPECT) | mashed,
            field,
            lambda *texts, number=number: is_noise(texts[number]),  # type: ignore[misc]
        )
        exact[f"repetition {field}"] = (
            _may_repeat_itself(text) & (pl.lit(field == "query") | ~label),
            field,
            lambda *texts, number=number: patterns.repeats_itself(texts[number]),  # type: ignore[misc]
        )
        exact[f"personal_data {field}"] = (
            text.str.contains(patterns.PERSONAL_SUSPECT),
            field,
            lambda *texts, number=number: patterns.has_personal_data(texts[number]),  # type: ignore[misc]
        )
    told_at_once = [
        (code, field, test) for code, tests in rules.items() if code not in skip for field, test in tests.items()
    ]
    found = [pl.when(test).then(pl.lit(number, dtype=pl.UInt8)) for number, (_, _, test) in enumerate(told_at_once)]
    suspects = [(code, *rule) for code, rule in exact.items() if code.split()[0] not in skip]
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
                told[row] = (code.split()[0], field)
    code_numbers = checked["found"]
    reasons = pl.DataFrame(
        {
            "reason": pl.Series([code for code, _, _ in told_at_once], dtype=pl.String).gather(code_numbers),
            "detail": pl.Series([field for _, field, _ in told_at_once], dtype=pl.String).gather(code_numbers),
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


def _other_script(languages: tuple[str, ...], most: float) -> dict[str, pl.Expr]:
    """Letters of scripts in which none of the languages is written; tasks about languages may have them."""
    own = "".join(rf"\p{{{_SCRIPTS[language]}}}" for language in languages if language in _SCRIPTS)
    # Marks of transliteration belong to no script.
    letters = rf"[\p{{L}}--[\p{{Latin}}\p{{Common}}\p{{Inherited}}{own}]]"
    elsewhere = ~pl.col("task").fill_null("").str.contains(_ABOUT_LANGUAGES)

    def found(text: pl.Expr) -> pl.Expr:
        odd = _where(text.str.len_bytes() != text.str.len_chars(), text)
        share = odd.str.count_matches(letters) / odd.str.len_chars()
        # A word or two of another script among words of one's own are what the text is about, as in a dictionary.
        named = (share <= _NAMED_MOST) & (odd.str.count_matches(rf"{letters}+") <= _NAMED_RUNS)
        among = odd.str.count_matches(rf"[\p{{Latin}}{own}]{{2,}}") >= 2
        return ((share > most) & ~(named & among)).fill_null(False)

    return {field: found(pl.col(field)) & elsewhere for field in TRIPLET_FIELDS}


def _other_language(
    rows: pl.DataFrame, languages: tuple[str, ...], characters_min: int, confidence: float
) -> dict[str, pl.Expr]:
    elsewhere = ~pl.col("task").fill_null("").str.contains(_ABOUT_LANGUAGES)
    return {
        field: pl.lit((foreign(rows[field], languages, characters_min) >= confidence).fill_null(False)) & elsewhere
        for field in TRIPLET_FIELDS
    }


def _where(look: pl.Expr, text: pl.Expr) -> pl.Expr:
    """The text where a cheap first look holds, null elsewhere: an expensive look passes over null."""
    return pl.when(look).then(text)


def _unfinished(text: pl.Expr, *, sentences: bool) -> pl.Expr:
    """Whether a long text ends as no sentence ends or, of several sentences, lacks the mark that the others have."""
    long = text.str.len_bytes() > 2 * UNFINISHED_WORDS  # spares counting the words of most short texts
    broken = text.str.tail(24).str.contains(patterns.UNFINISHED_END)
    if sentences:
        open_ = _where(long & text.str.tail(30).str.contains(patterns.OPEN_END), text)
        end = open_.str.tail(200)
        whole = end.str.contains(patterns.LAST_LINE_IS_NONE)
        noted = end.str.contains(patterns.STEP) | end.str.contains(patterns.AMOUNT_END)
        whole = whole | (noted & ~end.str.contains(patterns.OPEN_PREPOSITION))
        broken = broken | (open_.str.contains(patterns.SENTENCES) & ~whole).fill_null(False)
    # Counting words costs more than all other looks, and few texts are left.
    return (_where(long & broken, text).str.count_matches(r"\S+") > UNFINISHED_WORDS).fill_null(False)


def _as_an_ai(text: pl.Expr) -> pl.Expr:
    return _where(text.str.contains(patterns.AS_AN_AI_SUSPECT), text).str.contains(patterns.AS_AN_AI)


def _about(text: pl.Expr) -> pl.Expr:
    suspect = _where(text.str.contains(patterns.ABOUT_SUSPECT), text)
    the = _where(suspect.str.contains(patterns.ABOUT_THE), suspect)
    return suspect.str.contains(patterns.ABOUT) | ~the.str.contains(patterns.OWN_SUBJECT).fill_null(True)


def _may_repeat_itself(text: pl.Expr) -> pl.Expr:
    """Whether the first or the last few letters of a text stand in it three times."""
    long = _where(text.str.len_bytes() >= patterns.REPETITION_LEAST, text)
    ends = (long.str.head(12), long.str.strip_chars_end(" .!?\n\"'").str.tail(12))
    return pl.any_horizontal(long.str.count_matches(end, literal=True) >= 3 for end in ends).fill_null(False)


def _opened(text: pl.Expr) -> pl.Expr:
    return _where(text.str.contains(patterns.OPENING_SUSPECT), text).str.contains(patterns.OPENING).fill_null(False)


def _same_label(label: pl.Expr, positive: pl.Expr, negative: pl.Expr) -> pl.Expr:
    """Whether two labels differ in case, outer punctuation and what parts their words alone; `C`, `C++` and `C#` do not."""
    near = label & ((positive.str.len_bytes().cast(pl.Int64) - negative.str.len_bytes()).abs() <= 4)

    def plain(text: pl.Expr) -> pl.Expr:
        words = _where(near, text).str.to_lowercase().str.replace_all(r"[\s_]+|(\p{L})-(\p{L})", "$1 $2")
        return words.str.strip_chars(" .,;:!?\"'\u2026\u201c\u201d\u2018\u2019()[]{}*`")

    return (plain(positive) == plain(negative)).fill_null(False)


def _beside_other_rows(rows: pl.DataFrame, skip: tuple[str, ...]) -> dict[str, dict[str, pl.Expr]]:
    """Negatives of one query beside each other and beside its positives; labels are not asked.

    Of rows with the same query and negative, and different positives, the one of the lowest row id stays. Rows that are the
    same in all are left to `near_duplicates.py`, which knows the better one.
    """
    negatives = pl.col("negative").is_not_null() & (pl.col("task_type") != "classification")
    found: dict[str, dict[str, pl.Expr]] = {}
    key = (pl.col("task_type") + "\n" + pl.col("query").str.strip_chars().str.to_lowercase()).hash()
    plain = [
        pl.col(field).str.strip_chars().str.to_lowercase().hash().alias(field) for field in ("positive", "negative")
    ]
    seen = rows.select(
        key.alias("query"), *plain, negatives.alias("asked"), pl.col("row_id"), pl.int_range(pl.len()).alias("at")
    )
    several = seen.filter(pl.col("query").is_not_null() & (pl.len().over("query") > 1))
    if "repeated_negative" not in skip:
        first = pl.col("positive").sort_by("row_id").first().over("query", "negative")
        gone = several.filter("asked").filter(pl.col("positive") != first)["at"]
        found["repeated_negative"] = {"negative": pl.lit(_marked(gone, rows.height))}
    if "negative_is_positive" not in skip:
        positives = several.select("query", pl.col("positive").alias("negative")).unique()
        gone = several.filter("asked").join(positives, on=["query", "negative"], how="semi")["at"]
        found["negative_is_positive"] = {"negative": pl.lit(_marked(gone, rows.height))}
    return found


def _marked(places: pl.Series, rows: int) -> pl.Series:
    marks = pl.repeat(False, rows, dtype=pl.Boolean, eager=True)
    return marks.scatter(places, True) if len(places) else marks


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
        of_document = words_asked(drawn.get("document_length", ""))[0], None  # prompts ask for at least so many
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
