"""Canonical JSON, fingerprints, ids and seeds.

Belongs here: hashes of values, ids made from them, and seeds; a generator is seeded by `seed_for` or by a seed that was
made by it. Not here: digests of files (`resources/store`, `resources/compute`).
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

FINGERPRINT_FORMAT = 1
_ENCODER = json.JSONEncoder(sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)


def canonical_json(value: Any) -> str:
    """The one JSON text of a value: sorted keys, no white space, no NaN.

    Raises ValueError for NaN and infinities and TypeError for what JSON cannot hold.

    >>> canonical_json({"b": 1, "a": [1.0, None]})
    '{"a":[1.0,null],"b":1}'
    """
    return _ENCODER.encode(value)


def digest(value: Any) -> str:
    """sha256 (64 hex digits) over the canonical JSON of a value, with the format's own version."""
    return hashlib.sha256(f"speed/{FINGERPRINT_FORMAT}:{canonical_json(value)}".encode()).hexdigest()


def short_id(*parts: str | int) -> str:
    """A 16-digit hex id of a row, task or topic, from what it is made of."""
    return digest(list(parts))[:16]


def seed_for(seed: int, name: str, *parts: str | int) -> int:
    """A 63-bit seed named by purpose: independent of order, batch and number of workers.

    >>> seed_for(1, "attributes", "row") == seed_for(1, "attributes", "row")
    True
    """
    return int(digest([seed, name, *parts])[:16], 16) >> 1
