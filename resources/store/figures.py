"""Figures in the manifests of a shared store: those that stages, plans and checks rely on have their types.

Another machine wrote them, so what is absent or of another type would end a run in the middle. An artifact with such a figure is
not used, and made again. Figures that are only displayed may be anything.

Belongs here: what code reads from `metadata` and `lineage` of another machine's artifact. Not here: the fields of every manifest, and
what a release has to hold (`manifests.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

_Number = Annotated[int, Field(ge=0, lt=1 << 53)]
_Counts = dict[str, _Number]


class _Figures(BaseModel):
    """Of any artifact."""

    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)

    rows: _Number | None = None
    asked: _Number | None = None
    quarantined: _Number | None = None
    teacher_calls: _Number | None = None
    reused_calls: _Number | None = None
    seconds: Annotated[float, Field(ge=0)] | None = None
    removed: _Counts = {}
    problems: _Counts = {}
    sample: list[dict[str, Any]] = []
    columns: dict[str, str] = {}


class _Lineage(BaseModel):
    """Of any artifact."""

    model_config = ConfigDict(frozen=True, strict=True)

    recipe: dict[str, Any] = {}
    externals: dict[str, str] = {}
    inputs: dict[str, str] = {}


class _Parts(_Figures):
    parts: dict[str, str]


class _EvaluationTexts(_Figures):
    texts_of: _Counts


class _Diversity(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True)

    topics: dict[str, Any]
    task_types: dict[str, Any]
    vendi: dict[str, Any]


class _Triplets(_Figures):
    rows: _Number
    asked: _Number
    diversity: _Diversity
    contamination: list[dict[str, Any]]


class _Judgements(_Figures):
    contradictions: dict[str, _Counts]
    unreadable: dict[str, _Counts]
    verdict_problems: _Counts


class _Scores(_Figures):
    scores: dict[str, dict[str, float]]
    trainings: _Number
    sd_between_seeds: dict[str, float] | None


class _Reruns(_Figures):
    reruns: dict[str, dict[str, Any]]


FIGURES: Mapping[str, type[_Figures]] = {
    "task_list": _Parts,
    "passages": _Parts,
    "evaluation_texts": _EvaluationTexts,
    "final_triplets": _Triplets,
    "preference_pairs": _Judgements,
    "mteb_scores": _Scores,
    "embedding_reruns": _Reruns,
}
"""What an asset's figures have to hold, where that is more than of any."""


def check_figures(manifest: Mapping[str, Any]) -> None:
    """Raise ValueError, in one line, for a manifest whose figures or lineage are not what code relies on."""
    if manifest["asset"] == "release":
        return  # `manifests.py` has what a release holds
    for name, model in (("metadata", FIGURES.get(manifest["asset"], _Figures)), ("lineage", _Lineage)):
        try:
            model.model_validate(manifest[name])
        except ValidationError as error:
            first = error.errors(include_url=False, include_input=False, include_context=False)[0]
            where = ".".join(part for part in map(str, first["loc"]) if part.isidentifier())[:100]
            raise ValueError(f"artifact.json is broken: {name}.{where}: {first['msg']}") from None
