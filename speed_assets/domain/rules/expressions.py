"""What a rule tests in one text, as polars expressions.

A cheap test comes first; an expensive one reads only the texts that the first one suspects.

Belongs here: expressions over one or two columns. Not here: which fields a rule tests (`tests.py`), regular expressions
(`row_patterns.py`).
"""

from __future__ import annotations

import polars as pl

from speed_assets.domain import row_patterns as patterns
from speed_assets.domain.language import SURELY_ENGLISH, other_language_probability
from speed_assets.domain.rules.languages import LanguagesByField
from speed_assets.domain.task_types import TRIPLET_FIELDS

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
    "am": "Ethiopic", "ar": "Arabic", "as": "Bengali", "ba": "Cyrillic", "be": "Cyrillic", "bg": "Cyrillic", "bn": "Bengali",
    "dz": "Tibetan", "el": "Greek", "fa": "Arabic", "gu": "Gujarati", "he": "Hebrew", "hi": "Devanagari", "hy": "Armenian",
    "ja": "Han}\\p{Hiragana}\\p{Katakana", "ka": "Georgian", "kk": "Cyrillic", "km": "Khmer", "kn": "Kannada", "ko": "Hangul",
    "ky": "Cyrillic", "lo": "Lao", "mk": "Cyrillic", "ml": "Malayalam", "mn": "Cyrillic", "mr": "Devanagari", "my": "Myanmar",
    "ne": "Devanagari", "or": "Oriya", "pa": "Gurmukhi", "ps": "Arabic", "ru": "Cyrillic", "sa": "Devanagari", "si": "Sinhala",
    "sr": "Cyrillic", "ta": "Tamil", "te": "Telugu", "tg": "Cyrillic", "th": "Thai", "tt": "Cyrillic", "ug": "Arabic",
    "uk": "Cyrillic", "ur": "Arabic", "zh": "Han",
}  # fmt: skip
"""Scripts of languages that are not written in Latin letters, as a character class names them."""


def only_where(condition: pl.Expr, text: pl.Expr) -> pl.Expr:
    """The text where a cheap test holds, null elsewhere: an expensive test skips null."""
    return pl.when(condition).then(text)


def other_script_tests(languages: LanguagesByField, most: float) -> dict[str, pl.Expr]:
    """Letters of scripts in which none of a field's languages is written; tasks about languages may have them."""
    elsewhere = ~pl.col("task").fill_null("").str.contains(_ABOUT_LANGUAGES)
    return {field: has_other_script(pl.col(field), languages[field], most) & elsewhere for field in TRIPLET_FIELDS}


def has_other_script(text: pl.Expr, languages: tuple[str, ...], most: float) -> pl.Expr:
    """Whether a text has more than a share of letters of scripts in which none of the languages is written.

    Args:
        text: any texts.
        languages: ISO 639-1 codes.
        most: share of the characters.
    """
    own = "".join(rf"\p{{{_SCRIPTS[language]}}}" for language in languages if language in _SCRIPTS)
    # Marks of transliteration belong to no script.
    letters = rf"[\p{{L}}--[\p{{Latin}}\p{{Common}}\p{{Inherited}}{own}]]"
    odd = only_where(text.str.len_bytes() != text.str.len_chars(), text)
    share = odd.str.count_matches(letters) / odd.str.len_chars()
    # A word or two of another script among words of one's own are what the text is about, as in a dictionary.
    named = (share <= _NAMED_MOST) & (odd.str.count_matches(rf"{letters}+") <= _NAMED_RUNS)
    among = odd.str.count_matches(rf"[\p{{Latin}}{own}]{{2,}}") >= 2
    return ((share > most) & ~(named & among)).fill_null(False)


def other_language_tests(
    rows: pl.DataFrame, languages: LanguagesByField, characters_min: int, confidence: float
) -> dict[str, pl.Expr]:
    """By field: whether its text is in another language; tasks about languages pass.

    Args:
        rows: task, query, positive, negative; the tests hold for these rows alone.
        languages: those that each field is to be written in.
        characters_min: bytes of plain words that a text needs for its language to be detected.
        confidence: 0..1, the probability of another language from which on the test is true.

    Raises:
        ValueError: the identifier does not know a language.
    """
    elsewhere = ~pl.col("task").fill_null("").str.contains(_ABOUT_LANGUAGES)
    return {
        field: pl.lit(
            (other_language_probability(rows[field], languages[field], characters_min) >= confidence).fill_null(False)
        )
        & elsewhere
        for field in TRIPLET_FIELDS
    }


def is_english(text: pl.Expr, languages: tuple[str, ...]) -> pl.Expr:
    """Whether rules that know English words may read a text: rows are in English alone, or its words show it."""
    return pl.lit(True) if languages == ("en",) else text.str.contains(SURELY_ENGLISH)


def ends_unfinished(text: pl.Expr, *, sentences: bool, languages: tuple[str, ...] = ("en",)) -> pl.Expr:
    """Whether a long text ends as no sentence ends or, of several sentences, lacks the mark that the others have.

    Args:
        text: any texts.
        sentences: whether the last of several sentences needs its mark.
        languages: ISO 639-1 codes of the languages that rows are written in.
    """
    long = text.str.len_bytes() > 2 * UNFINISHED_WORDS  # spares counting the words of most short texts
    end = text.str.tail(24)
    broken = end.str.contains(patterns.UNFINISHED_MARK)
    broken = broken | (end.str.contains(patterns.UNFINISHED_WORD) & is_english(text, languages))
    if sentences:
        open_ = only_where(long & text.str.tail(30).str.contains(patterns.OPEN_END), text)
        end = open_.str.tail(200)
        whole = end.str.contains(patterns.LAST_LINE_IS_NONE)
        noted = end.str.contains(patterns.STEP) | end.str.contains(patterns.AMOUNT_END)
        whole = whole | (noted & ~end.str.contains(patterns.OPEN_PREPOSITION))
        broken = broken | (open_.str.contains(patterns.SENTENCES) & ~whole).fill_null(False)
    # Counting words costs more than all other tests, and few texts are left.
    return (only_where(long & broken, text).str.count_matches(r"\S+") > UNFINISHED_WORDS).fill_null(False)


def speaks_as_an_ai(text: pl.Expr) -> pl.Expr:
    """Whether the writer of a text calls itself an AI model."""
    return only_where(text.str.contains(patterns.AS_AN_AI_SUSPECT), text).str.contains(patterns.AS_AN_AI)


def is_about_the_document(text: pl.Expr) -> pl.Expr:
    """Whether a document describes itself as a document."""
    suspect = only_where(text.str.contains(patterns.ABOUT_SUSPECT), text)
    the = only_where(suspect.str.contains(patterns.ABOUT_THE), suspect)
    return suspect.str.contains(patterns.ABOUT) | ~the.str.contains(patterns.OWN_SUBJECT).fill_null(True)


def may_repeat_itself(text: pl.Expr) -> pl.Expr:
    """Whether the first or the last few letters of a text occur in it three times; of a short one, the last letter five times."""
    short = only_where(text.str.len_bytes() < patterns.REPETITION_LEAST, text)
    last = short.str.to_lowercase().str.strip_chars_end(" .!?\n\"'").str.tail(1)
    of_one_word = short.str.to_lowercase().str.count_matches(last, literal=True) >= patterns.WORD_TIMES
    long = only_where(text.str.len_bytes() >= patterns.REPETITION_LEAST, text)
    ends = (long.str.head(12), long.str.strip_chars_end(" .!?\n\"'").str.tail(12))
    return pl.any_horizontal(of_one_word, *(long.str.count_matches(end, literal=True) >= 3 for end in ends)).fill_null(
        False
    )


def opens_as_an_assistant(text: pl.Expr) -> pl.Expr:
    """Whether a text opens or closes as an assistant's answer does."""
    begun = text.str.head(patterns.OPENING_HEAD).str.contains(patterns.OPENING_SUSPECT)
    closed = text.str.tail(patterns.OPENING_TAIL).str.contains(patterns.CLOSE_SUSPECT)
    return only_where(begun | closed, text).str.contains(patterns.OPENING).fill_null(False)


def is_same_label(label: pl.Expr, positive: pl.Expr, negative: pl.Expr) -> pl.Expr:
    """Whether two labels differ in case, outer punctuation and what parts their words alone; `C`, `C++` and `C#` do not."""
    near = label & ((positive.str.len_bytes().cast(pl.Int64) - negative.str.len_bytes()).abs() <= 4)

    def plain(text: pl.Expr) -> pl.Expr:
        words = only_where(near, text).str.to_lowercase().str.replace_all(r"[\s_]+|(\p{L})-(\p{L})", "$1 $2")
        return words.str.strip_chars(" .,;:!?\"'\u2026\u201c\u201d\u2018\u2019()[]{}*`")

    return (plain(positive) == plain(negative)).fill_null(False)


def words_without_marks(text: pl.Expr) -> pl.Expr:
    """The words of a text, in lower case and without the marks on letters."""
    plain = text.str.normalize("NFKD").str.replace_all(r"\p{M}", "").str.to_lowercase().str.replace_all("_", " ")
    return plain.str.extract_all(r"[\p{L}\p{N}]+")
