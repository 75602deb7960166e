"""Asking a server for embeddings over HTTP, and how far they are from those of a release.

Belongs here: the request, what of a reply is believed, the comparison. Not here: serving (`workers/serve_embeddings.py`), the
release's own vectors (`workers/embed_texts.py`).
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import httpx2
import numpy as np
from pydantic import TypeAdapter, ValidationError

from resources.redaction import mark_secret_variables, redacted_message
from resources.releases.releases import Release
from resources.teacher.unpacking import BodyLimit, UnreadableBody
from speed_assets.domain.fingerprints import digest
from speed_assets.domain.task_types import TASK_TYPE_NAMES
from speed_assets.errors import SpeedError
from speed_assets.recipe.section import Endpoint

TEXTS_A_REQUEST = 16
"""Ours: small enough for servers that answer at most 32."""
_PLAIN_TEXTS = (
    ("how do I reset the pump", "query"),
    ("pump", "query"),
    ("Hold the red button for five seconds.", "document"),
    ("The pump weighs 4 kg. It hangs on two screws, and a cover keeps dust away from its wheel. " * 5, "document"),
)
"""Texts to compare for a release whose rows are kept back (ours: short and long ones)."""
_BYTES_A_NUMBER = 32
"""Bytes of a number of a reply at most, with its share of everything else (ours)."""
_WIDTH_MAX = 65_536
"""Numbers of a vector at most (ours: eight times the widest model of MTEB's board)."""


class ServerFailed(SpeedError, RuntimeError):
    """A server that gave no embeddings; the message says why and what to do."""


@dataclass(frozen=True, slots=True)
class Drift:
    """How far served vectors are from a release's. A distance is 1 minus the cosine similarity of the two vectors of a text."""

    texts: int
    width: int
    largest: float
    mean: float
    over: tuple[int, ...]
    """Numbers of the texts whose distance is above the tolerance, the farthest first."""
    length_served: float
    """Mean length of the served vectors; a model without a last normalising module has others than 1."""
    length_own: float


def sampled(release: Release, count: int) -> list[tuple[str, str]]:
    """(text, side) of a release's rows: the longest text, and others drawn by a hash, so that they are always the same.

    Args:
        release: whose tables below `data/` are read; one without any rows has a few plain sentences in their place.
        count: texts at most.
    """
    import polars as pl

    found: dict[tuple[str, str], None] = {}
    for task_type in TASK_TYPE_NAMES:
        file = release.path / "data" / task_type / "train.parquet"
        if not file.is_file():
            continue
        rows = pl.read_parquet(file, columns=["query", "positive"])
        for side, field in (("query", "query"), ("document", "positive")):
            found |= dict.fromkeys((text, side) for text in rows[field] if text)
    found = found or dict.fromkeys(_PLAIN_TEXTS)
    drawn = sorted(found, key=lambda one: digest(["check-served", *one]))
    longest = sorted(found, key=lambda one: (-len(one[0]), one))[:1]
    return list(dict.fromkeys([*longest, *drawn]))[:count]


def served_vectors(
    url: str, model: str, texts: Sequence[str], key_variable: str | None, timeout_s: float
) -> np.ndarray:
    """The vectors that a server gives for texts.

    Args:
        url: base URL of an OpenAI-compatible server, such as http://127.0.0.1:8012/v1.
        model: name of the model there.
        texts: sent as they are.
        key_variable: environment variable with the key; None sends none.
        timeout_s: seconds that one request may take.

    Returns:
        (texts, width) float32.

    Raises:
        ServerFailed: the server cannot be reached, refuses, or its reply holds no vectors of one width for these texts.
    """
    address = f"{_checked_address(url)}/embeddings"
    headers = {"Content-Type": "application/json", **_authorisation(key_variable)}
    hooks = BodyLimit(lambda _: TEXTS_A_REQUEST * _WIDTH_MAX * _BYTES_A_NUMBER, lambda _: timeout_s).hooks()
    found: list[np.ndarray] = []
    with httpx2.Client(timeout=timeout_s, follow_redirects=False, event_hooks=hooks) as client:
        for start in range(0, len(texts), TEXTS_A_REQUEST):
            part = list(texts[start : start + TEXTS_A_REQUEST])
            asked = json.dumps({"model": model, "input": part, "encoding_format": "float"})
            try:
                reply = client.post(address, content=asked, headers=headers)
            except (httpx2.HTTPError, UnreadableBody) as error:
                raise ServerFailed(
                    f"{address} does not answer ({type(error).__name__}: {redacted_message(error)}): start it"
                ) from None
            found.append(_vectors(address, reply.status_code, reply.content, len(part)))
    if len({vectors.shape[1] for vectors in found}) > 1:
        raise ServerFailed(f"{address} gives vectors of several widths: it serves no one model")
    return np.concatenate(found)


def _checked_address(url: str) -> str:
    try:
        return str(TypeAdapter(Endpoint).validate_python(url)).rstrip("/")
    except ValidationError as error:
        raise ServerFailed(f"URL: {error.errors()[0]['msg']}") from None


def _authorisation(key_variable: str | None) -> dict[str, str]:
    if key_variable is None:
        return {}
    mark_secret_variables(key_variable)
    key = os.environ.get(key_variable, "")
    if not (key and key.isascii() and key.isprintable() and key == key.strip()):
        raise ServerFailed(f"the environment variable {key_variable} holds no key that can be sent: set it")
    return {"Authorization": f"Bearer {key}"}


def _vectors(address: str, status: int, body: bytes, count: int) -> np.ndarray:
    """The vectors of one reply, in the order of the texts. Raises ServerFailed."""
    if status == 404:
        raise ServerFailed(f"{address} has no such model or path (404): check the URL, or name its model with --model")
    if status != 200:
        raise ServerFailed(
            f"{address} answers {status}: {redacted_message(ValueError(body[:300].decode(errors='replace')))}"
        )
    try:
        entries = json.loads(body)["data"]
        numbered: dict[int, Any] = {entry["index"]: entry["embedding"] for entry in entries}
        vectors = np.array([numbered[number] for number in range(count)], dtype=np.float32)
        fit = len(entries) == count and vectors.ndim == 2 and 0 < vectors.shape[1] <= _WIDTH_MAX
    except (ValueError, KeyError, TypeError, RecursionError):
        fit = False
    if not fit:
        raise ServerFailed(f"the reply of {address} does not hold {count} embeddings: it is no /v1/embeddings")
    if not np.isfinite(vectors).all():
        raise ServerFailed(f"the reply of {address} holds numbers that are not finite: the model overflows there")
    return vectors


def compared(served: np.ndarray, own: np.ndarray, tolerance: float) -> Drift:
    """How far the served vectors are from the release's.

    Args:
        served, own: (texts, width) vectors of the same texts.
        tolerance: largest distance of a text, 0..2.

    Raises:
        ServerFailed: the widths differ.
    """
    if served.shape != own.shape:
        raise ServerFailed(
            f"the server's vectors have {served.shape[1]} numbers, the release's {own.shape[1]}: it serves another model"
        )
    lengths = [np.linalg.norm(vectors.astype(np.float64), axis=1) for vectors in (served, own)]
    scale = np.maximum(lengths[0] * lengths[1], 1e-30)
    distances = 1 - (served.astype(np.float64) * own).sum(axis=1) / scale
    order = np.argsort(-distances, kind="stable")
    return Drift(
        len(distances),
        served.shape[1],
        float(distances.max()),
        float(distances.mean()),
        tuple(int(number) for number in order if distances[number] > tolerance),
        float(lengths[0].mean()),
        float(lengths[1].mean()),
    )
