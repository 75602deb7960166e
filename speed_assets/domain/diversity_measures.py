"""How diverse a table of triplets is: topics, task types, attributes, words, and complete rows.

Belongs here: measures of rows that are there, on a sample whose size the caller names. Not here: near-duplicates
(`near_duplicates.py`), which are removed, or thresholds (`checks/`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import polars as pl

from speed_assets.domain.attributes import ATTRIBUTES, draw_attributes
from speed_assets.domain.candidates import prompt_row_id
from speed_assets.domain.fingerprints import seed_for
from speed_assets.domain.row_languages import language_counts
from speed_assets.domain.task_types import TRIPLET_FIELDS

NGRAMS = (1, 2, 3)
"""Words in the n-grams of which distinct ones are counted."""
_MIX = np.uint64(0x9E3779B97F4A7C15)  # odd, so that nothing of a hash is lost
_COLUMNS_AT_ONCE = 4096  # words of a kernel's matrix that are in memory together


def random_rows(rows: pl.DataFrame, most: int, seed: int) -> pl.DataFrame:
    """At most `most` rows in an order drawn from `seed`: the first of them are a sample, too."""
    return rows[np.random.default_rng(seed).permutation(rows.height)[:most]]


def normalized_entropy(counts: Sequence[float]) -> float:
    """Entropy of counts of all possible values, as a share (0..1) of the most that so many values can have.

    1 is as even as can be, 0 is one value only, or nothing counted. Raises ValueError for fewer than two possible values.

    >>> normalized_entropy([5, 5]), normalized_entropy([9, 0, 0])
    (1.0, 0.0)
    """
    if len(counts) < 2:
        raise ValueError(f"entropy is a share of the most that several values have, here is {len(counts)}")
    return min(_entropy(np.asarray(counts, dtype=float)) / float(np.log(len(counts))), 1.0)


def _entropy(weights: np.ndarray) -> float:
    """Entropy in nats of weights that need not sum to 1; those that are not above 0 count as none."""
    weights = weights[weights > 0]
    shares = weights / weights.sum() if weights.size else weights
    return abs(float((shares * np.log(shares)).sum()))


def share_distance(one: Mapping[str, float], other: Mapping[str, float]) -> float:
    """Total variation distance (0..1) between two tables of counts or shares: the share that would have to move.

    Two empty tables are the same, one empty and one not are as far apart as can be.

    >>> share_distance({"a": 7, "b": 7}, {"a": 1, "b": 3})
    0.25
    """
    sums = [sum(table.values()) for table in (one, other)]
    if not all(sums):
        return float(any(sums))
    names = {*one, *other}
    return sum(abs(one.get(name, 0) / sums[0] - other.get(name, 0) / sums[1]) for name in names) / 2


def word_hashes(texts: pl.Series) -> tuple[np.ndarray, np.ndarray]:
    """(text, word) of every word in order: the number of its text, int64, and a hash of 64 bits.

    Words are runs of letters and digits in lower case. A text of none is one word, the same for all of them.
    """
    found = texts.fill_null("").str.to_lowercase().str.extract_all(r"[\p{L}\p{N}]+")
    exploded = found.alias("word").to_frame().with_row_index("text").explode("word", empty_as_null=True)
    return exploded["text"].cast(pl.Int64).to_numpy(), exploded["word"].hash().to_numpy()


def distinct_ngram_shares(texts: pl.Series) -> dict[str, float]:
    """Distinct n-grams as a share of all n-grams, by the number of words in them; nulls are no texts.

    Shares fall with the number of texts, so only samples of one size compare. 0 where there are no n-grams.
    """
    text, word = word_hashes(texts.drop_nulls())
    grams = word
    shares = {}
    for length in NGRAMS:
        if length > 1:
            grams = grams[:-1] * _MIX + word[length - 1 :]  # modulo 2**64: a hash of hashes
        inside = pl.Series(grams[text[: grams.size] == text[length - 1 :]])
        shares[str(length)] = round(inside.n_unique() / inside.len(), 4) if inside.len() else 0.0
    return shares


def vendi_score(texts: pl.Series) -> float:
    """Effective number of different texts: 1 where all are the same, their number where no two share a word.

    The exponential of the entropy of the eigenvalues of K / n, K being the cosines between word counts
    (Friedman and Dieng 2023). Time grows with the cube of the texts, memory with their square. 0 for no texts.
    """
    if texts.is_empty():
        return 0.0
    text, hashes = word_hashes(texts)
    word = np.unique(hashes, return_inverse=True)[1]
    order = np.argsort(word, kind="stable")
    text, word = text[order], word[order]
    kernel = np.zeros((len(texts), len(texts)))
    for first in range(0, int(word[-1]) + 1, _COLUMNS_AT_ONCE):
        some = slice(*np.searchsorted(word, (first, first + _COLUMNS_AT_ONCE)))
        counts = np.zeros((len(texts), _COLUMNS_AT_ONCE))
        np.add.at(counts, (text[some], word[some] - first), 1)
        kernel += counts @ counts.T
    lengths = np.sqrt(np.diag(kernel))
    return float(np.exp(_entropy(np.linalg.eigvalsh(kernel / np.outer(lengths, lengths)))))


def row_texts(rows: pl.DataFrame) -> pl.Series:
    """The fields of each row, joined into one text."""
    return rows.select(pl.concat_str(TRIPLET_FIELDS, separator=" ", ignore_nulls=True)).to_series()


def topic_coverage(kept: pl.DataFrame, asked: pl.DataFrame) -> dict[str, Any]:
    """How many of the topics asked for have a row.

    Args:
        kept: (task_type, topic) of the rows that are left, repeated or not.
        asked: The same of the rows that were asked for.

    Returns:
        Plain values. Shares are of 0..1, and 1 where no topic was asked for; `missing` names the first topics without a row.
    """
    asked = asked.select("task_type", "topic").unique(maintain_order=True)
    there = asked.join(kept, on=["task_type", "topic"], how="semi")
    missing = asked.join(there, on="topic", how="anti")["topic"].unique().sort()
    of_type = {name: group.height for (name,), group in there.group_by("task_type")}
    topics = asked["topic"].n_unique()
    return {
        "asked": topics,
        "covered": topics - missing.len(),
        "share": _share(topics - missing.len(), topics),
        "by_task_type": {
            name: _share(of_type.get(name, 0), group.height)
            for (name,), group in asked.group_by("task_type", maintain_order=True)
        },
        "missing": missing.head(10).to_list(),
    }


def _share(part: int, whole: int) -> float:
    return round(part / whole, 4) if whole else 1.0


def attribute_use(
    rows: pl.DataFrame, seed: int, in_prompts: Mapping[str, frozenset[str]] | None = None
) -> list[dict[str, Any]]:
    """What the prompts of these rows (row_id, task_type) asked for, by task type and attribute, drawn again from `seed`.

    `entropy` is that of the values of these rows, `entropy_asked` that of the weights they were drawn by, both
    normalized; `distance` is the share of these rows that would have to have another value, `never` names values that
    no row has. `in_prompts` are, by task type, the attributes that prompts state; None takes all that are drawn.
    """
    use = []
    for task_type, attributes in ATTRIBUTES.items():
        ids = rows.filter(pl.col("task_type") == task_type)["row_id"]
        if not attributes or ids.is_empty():
            continue
        drawn = [draw_attributes(task_type, seed_for(seed, "attributes", prompt_row_id(row_id))) for row_id in ids]
        for attribute in attributes:
            if in_prompts is not None and attribute.name not in in_prompts[task_type]:
                continue
            values = [draw[attribute.name] for draw in drawn if attribute.name in draw]
            counts = {value: values.count(value) for value in attribute.values}
            weights = dict(zip(attribute.values, attribute.weights, strict=True))
            use.append(
                {
                    "task_type": task_type,
                    "attribute": attribute.name,
                    "rows": len(values),
                    "entropy": round(normalized_entropy(list(counts.values())), 4),
                    "entropy_asked": round(normalized_entropy(attribute.weights), 4),
                    "distance": round(share_distance(counts, weights), 4),
                    "never": [value for value, count in counts.items() if not count],
                }
            )
    return use


def diversity(
    rows: pl.DataFrame,
    asked_topics: pl.DataFrame,
    intended: Mapping[str, int],
    *,
    rows_max: int,
    vendi_rows_max: int,
    seed: int,
    in_prompts: Mapping[str, frozenset[str]] | None = None,
    languages: Mapping[str, float] | None = None,
) -> dict[str, Any]:
    """Every measure of the rows of final_triplets.

    Topics and task types are counted over all rows, the other measures on samples.

    Args:
        rows: final_triplets.
        asked_topics: (task_type, topic) of the rows that were asked for.
        intended: A number for each task type, of any scale.
        rows_max: Most rows of the sample for attributes and n-grams.
        vendi_rows_max: Most rows of the sample for the Vendi score.
        seed: Of the recipe.
        in_prompts: As in `attribute_use`.
        languages: Weight of each language that rows are drawn in; None where the rows have no `LANGUAGE_COLUMNS`.

    Returns:
        Plain values, by measure.
    """
    some = random_rows(rows, rows_max, seed_for(seed, "diversity"))
    few = some.head(vendi_rows_max)
    kept = dict(rows["task_type"].value_counts(sort=True).iter_rows())
    score = vendi_score(row_texts(few))
    return {
        "rows": some.height,
        "topics": topic_coverage(rows, asked_topics),
        "task_types": {
            "kept": {name: round(kept.get(name, 0) / max(rows.height, 1), 4) for name in intended},
            "intended": {name: round(number / max(sum(intended.values()), 1), 4) for name, number in intended.items()},
            "distance": round(share_distance(kept, intended), 4),
        },
        **({"languages": language_counts(rows, languages)} if languages else {}),
        "attributes": attribute_use(some, seed, in_prompts),
        "distinct": {field: distinct_ngram_shares(some[field]) for field in TRIPLET_FIELDS},
        "vendi": {"rows": few.height, "score": round(score, 2), "per_row": round(score / max(few.height, 1), 4)},
    }
