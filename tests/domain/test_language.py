"""The language identifier: the compiled sums are the package's own, and what has no language is not told."""

from __future__ import annotations

import polars as pl
import pytest

from speed_assets.domain.language import known_languages, other_language_probability
from tests.support.planted_rows import OTHER_LANGUAGE, RIGHT


def test_the_compiled_sums_are_those_of_the_package() -> None:
    from py3langid import langid

    known = langid.LanguageIdentifier.from_model_file(langid.MODEL_FILE, norm_probs=True)
    texts = [text for text in OTHER_LANGUAGE if len(text.encode()) <= 90 and not any(mark in text for mark in "¿¡")]
    texts += ["people link the law to a verdict", "who repairs oboes here"]
    ours = other_language_probability(pl.Series(texts), ("de", "sv"), 10)
    for text, found in zip(texts, ours, strict=True):
        theirs = dict(known.rank(text))
        assert found == pytest.approx(1 - theirs["de"] - theirs["sv"], abs=1e-4), text


def test_other_languages_are_found_and_english_is_not() -> None:
    english = [text for row in RIGHT for text in row]
    assert other_language_probability(pl.Series(english), ("en",), 30).fill_null(0).max() < 0.98  # type: ignore[operator]
    assert (other_language_probability(pl.Series(OTHER_LANGUAGE), ("en",), 30) >= 0.98).mean() == 1


def test_what_has_no_plain_words_is_not_judged() -> None:
    texts = [None, "", "short", "GET /index.html HTTP/1.1 200 10.0.0.1", "x_1=3;y_2=4;z_3=x_1*y_2 a@b.c http://d.e/f"]
    assert other_language_probability(pl.Series(texts), ("en",), 30).null_count() == len(texts)


def test_a_language_that_is_not_known_is_reported() -> None:
    assert {"en", "de", "zh"} <= known_languages()
    with pytest.raises(ValueError, match="xx"):
        other_language_probability(pl.Series(["a text"]), ("en", "xx"), 30)
