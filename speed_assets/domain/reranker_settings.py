"""What the settings of a model say of its use as a reranker: one number for each pair of query and document.

Belongs here: reading `config.json` as plain values. Not here: files and weights (`resources/inputs/safe_models.py`), scoring
(`speed_assets/workers/rerank.py`).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

HEAD = "ForSequenceClassification"
"""How classes end that have a classification head, as transformers names them."""


def reranker_problem(config: Mapping[str, Any], max_length: int) -> str | None:
    """Why a model is no reranker that can be used, with what to do; None for one.

    >>> reranker_problem({"architectures": ["BertForSequenceClassification"], "id2label": {"0": "x"}}, 512) is None
    True
    >>> reranker_problem({"architectures": ["BertModel"]}, 512)
    'is BertModel, which has no classification head, and its scores would be random: name a cross-encoder (...ForSequenceClassification)'

    Args:
        config: what its `config.json` says.
        max_length: tokens of query and document together at most, as the recipe has them.
    """
    named = config.get("architectures")
    classes = [str(one) for one in named] if isinstance(named, list) else []
    shown = ", ".join(classes)[:100] or "a model that names no architecture"
    if not any(one.endswith(HEAD) for one in classes):
        return f"is {shown}, which has no classification head, and its scores would be random: name a cross-encoder (...{HEAD})"
    labels = config.get("id2label")
    count = len(labels) if isinstance(labels, Mapping) else config.get("num_labels", 2)
    if count != 1:
        return f"gives {count} numbers for a pair, and a reranker gives one: name a cross-encoder with one output"
    positions = config.get("max_position_embeddings")
    if isinstance(positions, int) and 0 < positions < max_length:
        return f"has {positions} positions, fewer than reranker_scores.max_length={max_length}: lower that"
    return None
