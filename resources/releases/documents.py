"""The JSON files of a release, `manifest.json` and `recipe.json`, read as text from outside: the release may be somebody else's.

What code relies on has its type and bounds; above all, fingerprints are hexadecimal, since they become paths. Everything else may
be anything and is only displayed.

Belongs here: the shape of these two files. Not here: `artifact.json` (`resources/store/manifests.py`), finding releases (`releases.py`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from resources.store.manifests import Sha256, read_regular

DEPTH_MAX = 50
"""Maximum depth of nesting (ours; manifests have 5)."""
_Number = Annotated[int, Field(ge=0, lt=1 << 53)]
_Label = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,80}(/[a-z][a-z0-9_]{0,80})?$")]
"""An asset, or one of its task types: `topics`, `seed_data/sts`."""


class _Read(BaseModel):
    model_config = ConfigDict(frozen=True, strict=True, allow_inf_nan=False)


class _Made(_Read):
    fingerprint: Sha256
    digest: Sha256


class _Manifest(_Read):
    artifacts: dict[_Label, _Made]
    rows: dict[str, _Number] = {}


class _Checks(_Read):
    superior: dict[str, Any] | None = None


class _Recipe(_Read):
    seed: Annotated[int, Field(ge=0, lt=1 << 63)] | None = None
    checks: _Checks | None = None
    teacher: dict[str, Any] | None = None
    embedding_model: dict[str, Any] | None = None
    corpus: dict[str, Any] | None = None


DOCUMENTS: Mapping[str, type[_Read]] = {"manifest.json": _Manifest, "recipe.json": _Recipe}


def read_document(file: Path) -> Any:
    """The JSON values of one of these files. Raises ValueError, in one line, for a file that is none, or not what it has to be."""
    try:
        value = json.loads(read_regular(file))
    except RecursionError:
        raise ValueError(f"nested more than {DEPTH_MAX} levels deep") from None
    if not _is_shallow(value, DEPTH_MAX):
        raise ValueError(f"nested more than {DEPTH_MAX} levels deep")
    try:
        if model := DOCUMENTS.get(file.name):
            model.model_validate(value)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        where = ".".join(part for part in map(str, first["loc"]) if part.isidentifier())[:100]
        raise ValueError(f"{where}: {first['msg']}" if where else first["msg"]) from None
    return value


def _is_shallow(value: Any, depth: int) -> bool:
    if not isinstance(value, dict | list):
        return True
    inner = value.values() if isinstance(value, dict) else value
    return depth > 0 and all(_is_shallow(item, depth - 1) for item in inner)
