"""Near-duplicates: what is found, who survives, and that neither order nor batches matter."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from speed_assets.domain import near_duplicates as near_duplicates_module
from speed_assets.domain.folding import fold, fold_table, text_buffer
from speed_assets.domain.near_duplicates import NearDuplicates, Similarity, near_duplicates

TEXT = "the quick brown fox jumps over the lazy dog near the old mill by the river"
SIMILARITY = Similarity(shingle=5, permutations=64, jaccard=0.7, boilerplate=0.01)
WORDS = ["".join(random.Random(i).choices("abcdefghijklmnopqrstuvwxyz", k=6)) for i in range(4000)]


def repeats(
    texts: list[str], similarity: Similarity = SIMILARITY, quality: list[float] | None = None
) -> dict[str, str]:
    ids = pl.Series([f"{i:05d}" for i in range(len(texts))])
    better = None if quality is None else pl.Series(quality)
    found = near_duplicates(ids, pl.Series(texts, dtype=pl.String), similarity, better)
    return dict(found.iter_rows())


def planted(rows: int, boilerplate: int, seed: int) -> tuple[list[str], dict[int, int]]:
    """Texts of 60 words after one of five openings, a tenth of them edited copies: {copy: original}."""
    rng = random.Random(seed)
    openings = [rng.choices(WORDS, k=boilerplate) for _ in range(5)]
    bodies = [rng.choices(WORDS, k=60) for _ in range(rows * 9 // 10)]
    texts = [openings[i % 5] + body for i, body in enumerate(bodies)]
    copies = {}
    for original in rng.sample(range(len(bodies)), rows - len(bodies)):
        words = list(texts[original])
        for at in rng.sample(range(len(words)), max(1, round(rng.uniform(0.01, 0.1) * len(words)))):
            words[at] = rng.choice(WORDS)
        copies[len(texts)] = original
        texts.append(words)
    return [" ".join(words) for words in texts], copies


def test_exact_and_near_repeats_name_their_first() -> None:
    texts = [TEXT, TEXT.upper() + "!", TEXT.replace("lazy", "sleepy"), "something else altogether, really", "", "!"]
    assert repeats(texts) == {"00001": "00000", "00002": "00000"}


def test_a_similar_row_below_the_threshold_stays() -> None:
    strict = Similarity(5, 64, 0.9, 0.01)
    assert repeats([TEXT, TEXT.replace("lazy dog near the old", "new cat at a big")], strict) == {}


def test_the_best_survives_and_ties_go_by_row_id() -> None:
    texts = [TEXT, TEXT.replace("lazy", "sleepy"), TEXT.replace("mill", "hall")]
    loose = Similarity(5, 64, 0.5, 0.01)
    assert repeats(texts, loose, quality=[1, 3, 2]) == {"00000": "00001", "00002": "00001"}
    assert repeats(texts, loose, quality=[1, 1, 1]) == {"00001": "00000", "00002": "00000"}


def test_a_repeat_of_a_repeat_stays_when_it_does_not_resemble_a_survivor() -> None:
    a = " ".join(WORDS[:20])
    b = " ".join([*WORDS[3:20], *WORDS[20:23]])
    c = " ".join([*WORDS[6:20], *WORDS[20:26]])
    assert repeats([a, b, c], Similarity(5, 128, 0.65, 0.01)) == {"00001": "00000"}


@pytest.mark.parametrize("boilerplate", [0, 60])
def test_planted_edits_are_found_and_nothing_else(boilerplate: int) -> None:
    texts, copies = planted(6000, boilerplate, seed=1)
    found = {int(row): int(of) for row, of in repeats(texts, Similarity(5, 128, 0.6, 0.01)).items()}
    right = sum(copies.get(row) == of for row, of in found.items())
    assert right >= 0.96 * len(copies)
    assert right >= 0.99 * len(found)


def test_neither_order_nor_batches_change_the_result() -> None:
    texts, copies = planted(3000, 20, seed=2)
    rows = pl.DataFrame({"id": [f"{i:05d}" for i in range(len(texts))], "text": texts})
    rows = rows.with_columns(quality=pl.col("id").hash(7) % 5)
    whole = near_duplicates(rows["id"], rows["text"], SIMILARITY, rows["quality"]).sort("row_id")
    assert whole.height > 0.5 * len(copies)
    mixed = rows.sample(fraction=1, shuffle=True, seed=3)
    assert near_duplicates(mixed["id"], mixed["text"], SIMILARITY, mixed["quality"]).sort("row_id").equals(whole)
    index = NearDuplicates(SIMILARITY)
    for start in range(0, 3000, 700):
        batch = mixed[start : start + 700]
        index.add(batch["id"], batch["text"], batch["quality"])
    assert len(index) == 3000
    assert index.repeats().sort("row_id").equals(whole)


def test_a_new_batch_costs_no_comparison_of_old_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    from speed_assets.domain import kernels

    texts, _ = planted(2000, 0, seed=4)
    index = NearDuplicates(SIMILARITY)
    ids = pl.Series([f"{i:05d}" for i in range(2000)])
    index.add(ids[:1500], pl.Series(texts[:1500]))
    sketched: list[int] = []
    real = kernels.sketch

    def spy(data: object, offsets: object, first: int, past: int, *rest: object) -> None:
        sketched.extend(range(first, past))
        real(data, offsets, first, past, *rest)

    monkeypatch.setattr(kernels, "sketch", spy)
    pairs = index._pairs.copy()
    index.add(ids[1500:], pl.Series(texts[1500:]))
    assert sorted(sketched) == list(range(1500, 2000))
    assert (index._pairs[: len(pairs)] == pairs).all()
    assert (index._pairs[len(pairs) :] >= 1500).any(axis=1).all(), "no pair of old rows was compared again"


@settings(max_examples=60, deadline=None)
@given(st.lists(st.text(max_size=30), max_size=12))
def test_survivors_are_new_and_repeats_name_survivors(texts: list[str]) -> None:
    texts = [text.encode("utf-8", "ignore").decode() for text in texts]
    found = repeats(texts)
    assert not set(found) & set(found.values())
    kept = [text for i, text in enumerate(texts) if f"{i:05d}" not in found]
    assert len({fold(text) for text in kept if fold(text)}) == len([text for text in kept if fold(text)])


@settings(max_examples=200, deadline=None)
@given(st.text())
def test_the_compiled_folding_is_the_plain_one(text: str) -> None:
    import numpy as np

    from speed_assets.domain import kernels

    text = text.encode("utf-8", "ignore").decode()
    data, offsets = text_buffer(pl.Series([text], dtype=pl.String))
    out = np.empty(2 * len(text.encode()) + 2, np.uint32)
    count = kernels.fold(data, offsets[0], offsets[1], fold_table(), out)
    assert "".join(map(chr, out[:count])) == fold(text)


def test_a_row_of_a_crowded_bucket_is_compared_a_bounded_number_of_times(monkeypatch: pytest.MonkeyPatch) -> None:
    from speed_assets.domain import kernels

    rng = random.Random(5)
    parts = [" ".join(rng.choices(WORDS, k=4)) for _ in range(2000)]
    texts = [f"{part} {' '.join(WORDS[:60])}" for part in parts]  # alike, with parts that are not: no pair is one
    similarity = Similarity(5, 64, 0.6, 1.0, part_jaccard=0.9, same_rest_jaccard=0.9)
    counts: list[np.ndarray] = []
    compare = kernels.compare_buckets

    def spy(*arguments: Any) -> None:
        *_, tries, _partners = arguments
        counts.append(tries)
        compare(*arguments)

    monkeypatch.setattr(kernels, "compare_buckets", spy)
    ids = pl.Series([f"{number:05d}" for number in range(len(texts))])
    assert near_duplicates(ids, pl.Series(texts), similarity, None, pl.Series(parts)).is_empty()
    tries = counts[-1]
    assert tries.max() == near_duplicates_module._TRIES, "the buckets are crowded"
    assert tries.mean() > near_duplicates_module._TRIES / 2, "and so are those of most rows"


def test_boilerplate_of_rows_that_come_in_turns_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ten openings in turns, and a sample of every tenth row at most: each opening is common all the same."""
    monkeypatch.setattr("speed_assets.domain.near_duplicates._COMMON_SAMPLE", 2_000)
    rng = random.Random(3)
    openings = [" ".join(rng.choices(WORDS, k=40)) for _ in range(10)]
    texts = [f"{openings[i % 10]} {' '.join(rng.choices(WORDS, k=20))}" for i in range(20_000)]
    index = NearDuplicates(SIMILARITY)
    index.add(pl.Series([f"{i:05d}" for i in range(len(texts))]), pl.Series(texts))
    common = int(np.unpackbits(index._common).sum())
    shingles = {opening[i : i + 5] for opening in openings for i in range(len(opening) - 4)}
    assert common > 0.9 * len(shingles)


def test_texts_that_are_alike_stay_where_their_parts_are_not() -> None:
    paragraph = " ".join(WORDS[:60])
    asked = [f"{' '.join(WORDS[at : at + 4])}" for at in (100, 200)]
    texts = pl.Series([f"{query} {paragraph} {end}" for query, end in zip(asked, ("", "more"), strict=True)])
    ids, parts = pl.Series(["a", "b"]), pl.Series(asked)
    loose = {"shingle": 5, "permutations": 128, "jaccard": 0.6, "boilerplate": 1.0}
    assert near_duplicates(ids, texts, Similarity(**loose), None, parts).height == 1
    assert near_duplicates(ids, texts, Similarity(**loose, part_jaccard=0.5), None, parts).is_empty()
    alike = pl.Series([asked[0], f"{asked[0]} now"])
    texts = pl.Series([f"{query} {paragraph} {end}" for query, end in zip(alike, ("", "more"), strict=True)])
    assert near_duplicates(ids, texts, Similarity(**loose, part_jaccard=0.5), None, alike).height == 1


def test_questions_on_one_paragraph_are_held_to_their_own_bound() -> None:
    paragraph = " ".join(WORDS[:60])
    asked = pl.Series(["when did the last glacial period start", "when did the last glacial period end"])
    texts = pl.Series([f"{query} {paragraph}" for query in asked])
    loose = Similarity(5, 128, 0.6, 1.0, part_jaccard=0.3)
    strict = Similarity(5, 128, 0.6, 1.0, part_jaccard=0.3, same_rest_jaccard=0.9)
    ids = pl.Series(["a", "b"])
    assert near_duplicates(ids, texts, loose, None, asked).height == 1
    assert near_duplicates(ids, texts, strict, None, asked).is_empty()


def test_short_texts_have_to_be_more_alike() -> None:
    texts = [TEXT, TEXT.replace("lazy", "sleepy")]  # 16 words
    assert repeats(texts, Similarity(5, 128, 0.6, 1.0)) == {"00001": "00000"}
    assert repeats(texts, Similarity(5, 128, 0.6, 1.0, short_words=17, short_jaccard=0.9)) == {}
    assert repeats(texts, Similarity(5, 128, 0.6, 1.0, short_words=16, short_jaccard=0.9)) == {"00001": "00000"}


def test_query_least_keeps_other_questions_and_leaves_labels_out() -> None:
    from speed_assets.assets.triplets import filtered
    from speed_assets.recipe import load_recipe

    section = load_recipe("laptop").final_triplets
    paragraph = " ".join(WORDS[:60])
    row = {"task_type": "retrieval", "topic": "t", "task": "t", "valid": True, "negative": " ".join(WORDS[300:360])}
    asked = [" ".join(WORDS[at : at + 5]) for at in (100, 200)]
    rows = pl.DataFrame(
        [row | {"row_id": str(n), "query": q, "positive": f"{paragraph} {q[:6]}"} for n, q in enumerate(asked)]
    )
    rules = section.rules.model_copy(update={"language_confidence": None, "length_tolerance": None, "skip": ("noise",)})

    def kept(query_least: float | None) -> int:
        near = section.near_duplicates.model_copy(update={"query_least": query_least, "jaccard": 0.6})
        only_near = section.model_copy(update={"near_duplicates": near, "rules": rules})
        return filtered(rows, only_near, {}, 1).rows.height

    assert (kept(0.5), kept(None)) == (2, 1)
