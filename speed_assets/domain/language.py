"""The probability that a text is in another language than the recipe's, by an offline language identifier.

The model is that of `py3langid` (BSD, 142 languages, 5 MB in its wheel): naive Bayes over byte n-grams that an automaton finds.
Its own loop is plain Python and reads some 6,000 short texts a second; the same sums are made here by a compiled kernel. A
test holds both to the same figures, and the package is pinned, since the arrays are its own affair.

Belongs here: that figure for many texts. Not here: which rows are quarantined for it (`rules`).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import polars as pl

from speed_assets.domain.folding import in_parallel, text_buffer

WINDOW = 100
"""Bytes of plain words that are read at the start of a text, and at its end where it is longer than both. Ours."""
_ENGLISH = "the|and|of|with|this|from|you|your|have|which|what|how|would|their|they|should|about|my|where|when|why|there|it's|i'm|don't"
SURELY_ENGLISH = rf"(?is)(?-u:\b)(?:{_ENGLISH})(?-u:\b).*?(?-u:\b)(?:{_ENGLISH})(?-u:\b)"
"""Two such words make a text English: no other language has them (of 4,000 pseudo-sentences in 19 languages with 60 characters
or more, 0.1 % held two), and of texts so long most English ones need not be read then."""
_SURE_FROM = 60  # bytes
_SURELY = re.compile(SURELY_ENGLISH.replace("(?-u:\\b)", r"\b"), re.ASCII)
LIKELY_FROM = 12
"""Bytes of plain words from which on `most_likely_language` names one among few. Ours: two or three words."""
_LIKELY_OTHER = 0.5
_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_CHATTER = (
    "a+h+|aw+|(?:b?w?a)?(?:ha){2,}h?|(?:he){2,}|(?:hi){2,}|(?:ja){2,}|x+d+|o?m+g+|lo+l+|l+m+f?ao+|ro+fl+|ugh+|a+rgh+|gr+|hm+|m+h*m+"
    "|ya+y+|woo+|wo+w+|yu+m+|idk|tbh|smh|btw|brb|ngl|imh?o|wtf|omw|rn|fr|ur|thx|pls|plz|luv|gonna|wanna|gotta|kinda|dunno|cuz|tho"
)
_STRETCHED = rf"(?i)(?-u:\b)(?:{_CHATTER})(?-u:\b)|{'|'.join(f'{letter}{{3}}' for letter in _LETTERS)}"
_CHAT = re.compile(rf"(?i)\b(?:{_CHATTER})\b|\b\w*([^\W\d_])\1\1\w*")
"""Sounds, abbreviations and stretched words of a chat, in whatever language one chats: they tell none."""
_UNIT = np.float32(1 / 512)
"""The model's weights are whole multiples of this: kept as 16-bit numbers they lose nothing, and half of the memory is read."""


class _Model(NamedTuple):
    moves: np.ndarray
    rows: np.ndarray
    features: np.ndarray
    weights: np.ndarray
    priors: np.ndarray
    languages: tuple[str, ...]


@lru_cache(maxsize=1)
def _model() -> _Model:
    from py3langid import langid

    known = langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)
    exact = known.nb_ptc.astype(np.float32)
    weights = (exact / _UNIT).astype(np.int16)
    if not np.array_equal(weights * _UNIT, exact):
        raise RuntimeError("py3langid: its model is not the one that this was written for; install the pinned version")
    return _Model(
        np.asarray(known.tk_nextmove),
        np.asarray(known.tk_row, np.int64),
        np.asarray(known.tk_output, np.int32),
        weights,
        np.asarray(known.nb_pc, np.float32),
        tuple(known.nb_classes),
    )


def reads_as_english(text: str) -> bool:
    """Whether a text has two words that no other language has.

    >>> reads_as_english("what is the price"), reads_as_english("was ist das")
    (True, False)
    """
    return _SURELY.search(text) is not None


def known_languages() -> frozenset[str]:
    """ISO 639-1 codes of the languages that can be detected."""
    return frozenset(_model().languages)


def other_language_probability(texts: pl.Series, languages: tuple[str, ...], characters_min: int) -> pl.Series:
    """Probability that each text is in none of `languages`; null where too little of it can be read.

    Words with digits, at signs, slashes, or a point or colon inside are left out: addresses, code and lines of a log have no
    language. So are sounds and stretched words of a chat ("omg soooo"). Of a longer text its start and its end are read, and the
    surer one counts.

    Args:
        texts: Any texts; null has no language.
        languages: ISO 639-1 codes.
        characters_min: Bytes of plain words below which the probability is null.

    Raises:
        ValueError: A language that the identifier does not know.
    """
    model = _model()
    if unknown := sorted({*languages} - {*model.languages}):
        raise ValueError(f"languages={unknown}: not known to the language identifier; give ISO 639-1 codes such as en")
    settled = texts.is_null()
    if "en" in languages:
        settled |= (texts.str.len_bytes() >= _SURE_FROM) & texts.str.contains(SURELY_ENGLISH)
    open_ = (~settled.fill_null(True)).arg_true()
    found = _foreign(texts.gather(open_), languages, characters_min)
    # Not read and surely English is 0; too short to tell is null.
    none = pl.repeat(0.0, len(texts), dtype=pl.Float32, eager=True).set(texts.is_null(), None)
    return none.scatter(open_, found) if len(open_) else none


def most_likely_language(texts: pl.Series, languages: Sequence[str], characters_min: int = LIKELY_FROM) -> pl.Series:
    """Which of these languages each text is in; null where it is more likely in none of them, or too short to tell.

    Args:
        texts: Any texts; null has no language.
        languages: ISO 639-1 codes, known to the identifier.
        characters_min: Bytes of plain words that a text needs.

    >>> most_likely_language(pl.Series(["Wo steht der alte Kessel?", "12"]), ["de", "en"]).to_list()
    ['de', None]
    """
    there = texts.fill_null("")
    others = [_foreign(there, (language,), characters_min).fill_null(1.0).alias(language) for language in languages]
    least = pl.DataFrame(others).select(
        pl.coalesce(
            pl.when((pl.col(language) < _LIKELY_OTHER) & (pl.col(language) == pl.min_horizontal(pl.all()))).then(
                pl.lit(language)
            )
            for language in languages
        )
    )
    return least.to_series().alias(texts.name)


def _foreign(texts: pl.Series, languages: Sequence[str], characters_min: int) -> pl.Series:
    """Probability that each text is in none of `languages`, all of them read; null is too short to tell."""
    from speed_assets.domain import language_kernels

    model = _model()
    wanted = np.array([language in languages for language in model.languages])
    text = text_buffer(_composed(_without_chatter(texts)))
    found = np.empty(len(texts), np.float32)

    def classify(first: int, past: int) -> None:
        longest = int(np.diff(text.offsets[first : past + 1]).max(initial=0))
        language_kernels.foreign(
            *text, first, past, longest, model.moves, model.rows, model.features, model.weights, _UNIT, model.priors, wanted,
            WINDOW, characters_min, found,
        )  # fmt: skip

    in_parallel(classify, len(texts), at_least=500)
    return pl.Series(found).fill_nan(None)


def _without_chatter(texts: pl.Series) -> pl.Series:
    """Texts without sounds and stretched words; few have any."""
    odd = texts.str.contains(_STRETCHED).fill_null(False).arg_true()
    if odd.is_empty():
        return texts
    return texts.clone().scatter(odd, [_CHAT.sub(" ", text) for text in texts.gather(odd)])


def _composed(texts: pl.Series) -> pl.Series:
    """With letters and their marks as one character (NFC), as the model was trained; few texts need it."""
    odd = (texts.str.len_bytes() != texts.str.len_chars()).fill_null(False).arg_true()
    if odd.is_empty():
        return texts
    plain = [unicodedata.normalize("NFC", text) for text in texts.gather(odd)]
    return texts.clone().scatter(odd, plain)
