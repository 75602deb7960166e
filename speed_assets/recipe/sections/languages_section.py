"""The languages that rows are written in.

Belongs here: their shares. Not here: drawing (`domain/row_languages.py`), what must be true between them and other sections
(`recipe/rules.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, Field, model_validator

from speed_assets.domain import row_languages
from speed_assets.domain.language_names import LANGUAGE_NAMES
from speed_assets.recipe.section import NUMBER_MAX, Section, Share


def _known(code: str) -> str:
    if code not in LANGUAGE_NAMES:
        raise ValueError(f"{code[:20]!r} is no language that rows can be in: they are {', '.join(LANGUAGE_NAMES)}")
    return code


LanguageCode = Annotated[str, AfterValidator(_known)]
Weight = Annotated[float, Field(gt=0, le=NUMBER_MAX)]


class Languages(Section):
    """Languages that rows are written in, drawn for each row; null writes English, as the paper does. The paper draws none: all numbers are ours.
    `languages: {en: 0.7, de: 0.3}` is short for `languages: {shares: {en: 0.7, de: 0.3}}`."""

    shares: Annotated[dict[LanguageCode, Weight], Field(min_length=1)]
    """Weight of each language by its ISO 639-1 code, of any scale: a share is a weight by the sum of all. The language of a row's query is drawn by
    them. Another weight of one language changes only rows that this language gains or loses."""
    cross_lingual: Share = 0.0
    """Share of the rows whose documents are in another language than their query, drawn by the weights of the others. It is 0 for labels, which are
    spelt as the task spells them, and for grounded rows, whose passage is there."""
    same_as_passage: Share = 1.0
    """Share of the grounded rows whose query is in the language of its passage, whichever that is, as without `languages`; the queries of the
    others are drawn by `shares`. Of other task types than retrieval it counts for the texts opposite the passage."""

    @model_validator(mode="before")
    @classmethod
    def _shares_alone(cls, data: Any) -> Any:
        values = {"shares": data} if is_shares(data) else data
        shares = values.get("shares") if isinstance(values, Mapping) else None
        return {**values, "shares": _as_codes(shares)} if isinstance(shares, Mapping) else values

    @model_validator(mode="after")
    def _others(self) -> Languages:
        if self.cross_lingual and len(self.shares) < 2:
            raise ValueError(f"cross_lingual={self.cross_lingual:g} needs a second language in shares")
        return self

    def drawn(self) -> row_languages.Languages:
        """The same as the domain's value."""
        return row_languages.Languages(**self.model_dump())


def _as_codes(shares: Mapping[Any, Any]) -> dict[Any, Any]:
    """YAML reads the code of Norwegian, `no`, as false."""
    return {"no" if code is False else code: weight for code, weight in shares.items()}


def is_shares(data: Any) -> bool:
    """Whether the value of `languages` is that of its `shares` alone."""
    return isinstance(data, Mapping) and not set(data) & set(Languages.model_fields)


def languages_named(data: Any) -> list[str]:
    """The codes in a recipe's value of `languages`, in order; none where that is no section of languages.

    >>> languages_named({"en": 0.7, "de": 0.3}), languages_named({"shares": {"ja": 1}}), languages_named(None)
    (['de', 'en'], ['ja'], [])
    """
    shares = data if is_shares(data) else data.get("shares") if isinstance(data, Mapping) else None
    return sorted(map(str, _as_codes(shares))) if isinstance(shares, Mapping) else []
