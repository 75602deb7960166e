"""Planted contamination: how much of it is found, and how many clean rows are taken for it.

`python -m benchmarks.contamination_scan --local FOLDER...` plants copies of the texts of each folder and of the
microworld's evaluation sets. Clean rows of a set are held against all the other sets. Last line: one JSON object.
"""

from __future__ import annotations

import argparse
import json
import random
import re
import time
from collections.abc import Callable, Mapping, Sequence

import polars as pl

from resources.inputs.evaluation_sets import local_texts
from speed_assets.domain.contamination import HOW, EvaluationIndex, Limits
from speed_assets.domain.folding import fold
from speed_assets.domain.task_types import TOPIC_TYPES
from speed_assets.microworld.evaluation import evaluation_sets
from speed_assets.microworld.toy_records import read_task, write_record, write_task
from speed_assets.recipe import load_recipe
from tests.support.hostile import words

_SENTENCE = re.compile(r"(?<=[.!?])\s+")


def verbatim(text: str, rng: random.Random) -> str:
    return text


def normalized(text: str, rng: random.Random) -> str:
    """Other case, spacing and punctuation."""
    case = rng.choice([str.upper, str.lower, str.title])
    pieces = [word + rng.choice(["", "", ",", "!", " -"]) for word in re.findall(r"\w+|[^\w\s]+", text)]
    spaced = "".join(piece + rng.choice([" ", " ", "  ", "\n", "\u00a0"]) for piece in pieces)
    return f"{rng.choice(['', ' ', '- '])}{case(spaced)}"


def eight_of_ten(text: str, rng: random.Random) -> str | None:
    """Eight of ten sentences kept, for texts of at least five; None for shorter ones."""
    sentences = _SENTENCE.split(text)
    if len(sentences) < 5:
        return None
    dropped = rng.sample(range(len(sentences)), max(1, round(0.2 * len(sentences))))
    return " ".join(sentence for i, sentence in enumerate(sentences) if i not in dropped)


def one_in_ten(text: str, rng: random.Random) -> str | None:
    """One word in ten replaced by another, for texts of at least ten words; None for shorter ones."""
    said = text.split()
    if len(fold(text).split()) < 10 or len(said) < 10:
        return None
    for at in rng.sample(range(len(said)), len(said) // 10):
        said[at] = words(rng, 1)
    return " ".join(said)


PLANTS: dict[str, Callable[[str, random.Random], str | None]] = {
    "verbatim": verbatim,
    "normalized": normalized,
    "eight_of_ten_sentences": eight_of_ten,
    "one_word_in_ten": one_in_ten,
}


def plant(texts: Sequence[str], kind: str, seed: int, most: int = 2_000) -> list[str]:
    """Copies, of at most so many of the texts of three words and more."""
    rng = random.Random(f"{seed} {kind}")
    long_enough = [text for text in texts if len(fold(text).split()) >= 3]
    chosen = rng.sample(long_enough, min(most, len(long_enough)))
    return [copy for text in chosen if (copy := PLANTS[kind](text, rng)) is not None]


def longer(texts: Sequence[str], sentences: int = 10) -> list[str]:
    """Documents of ten sentences out of a set's short texts: for the plants that drop sentences."""
    ended = [text if text.rstrip().endswith((".", "!", "?")) else f"{text}." for text in texts if len(text.split()) > 2]
    return [" ".join(ended[i : i + sentences]) for i in range(0, len(ended) - sentences, sentences)]


def found_share(index: EvaluationIndex, texts: Sequence[str]) -> float | None:
    """Share of the texts that the index takes for copies; None of no texts."""
    if not texts:
        return None
    return 1 - index.copies(pl.Series(texts, dtype=pl.String))["evaluation"].null_count() / len(texts)


def microworld_rows(rows: int, seed: int) -> list[str]:
    """Texts of right rows on ordinary topics."""
    rng = random.Random(seed)
    texts: list[str] = []
    for _ in range(rows // 10):
        topic = " ".join(
            rng.choices(["chamber", "music", "garden", "tools", "violin", "harbor", "winter", "stone"], k=2)
        )
        for task_type in TOPIC_TYPES:
            texts += write_record(task_type, read_task(task_type, write_task(task_type, topic, rng)), rng).values()
    return texts


def measure(sets: Mapping[str, Sequence[str]], clean: Mapping[str, Sequence[str]], limits: Limits) -> dict[str, object]:
    """Found shares by set and kind of plant, and false alarms by set."""
    found: dict[str, dict[str, float | None]] = {}
    false: dict[str, dict[str, float]] = {}
    for name, texts in sets.items():
        documents = longer(texts)
        index = EvaluationIndex({name: [*texts, *documents]}, limits)
        found[name] = {
            kind: found_share(index, plant(documents if "sentences" in kind else texts, kind, 1)) for kind in PLANTS
        }
    for name, texts in clean.items():
        others = EvaluationIndex({other: group for other, group in sets.items() if other != name}, limits)
        copies = others.copies(pl.Series(texts, dtype=pl.String))
        shares = {how: int((copies["how"] == how).fill_null(False).sum()) / len(texts) for how in HOW.values()}
        # The same sentence in two public sets is an overlap of theirs, and no false alarm.
        false[name] = {"same_text": shares["exact"], "false_alarms": shares["ngram"] + shares["neighbour"]}
    return {"found": found, "clean": false}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--local", nargs="*", default=[])
    parser.add_argument("--recipe", default="paper")
    parser.add_argument("--show", type=int, default=0, help="print so many of the clean rows that are taken for copies")
    args = parser.parse_args()
    section = load_recipe(args.recipe).final_triplets.contamination
    limits = Limits(section.ngram, section.containment, section.words_min, section.neighbour)
    sets = local_texts(args.local)
    world = evaluation_sets(200, 1_000, seed=1)
    held_out = [text for group in world.all_texts().values() for text in group]
    clean = {**sets, "microworld rows": microworld_rows(50_000, 2)}
    result = measure({**sets, "microworld": held_out}, clean, limits)
    everything = EvaluationIndex({**sets, "microworld": held_out}, limits)
    rows = pl.Series([text for texts in clean.values() for text in texts])
    started = time.perf_counter()
    copies = everything.copies(rows)
    result["texts_per_s"] = round(len(rows) / (time.perf_counter() - started))
    if args.show:
        for name, texts in clean.items():
            others = {other: group for other, group in {**sets, "microworld": held_out}.items() if other != name}
            copies = EvaluationIndex(others, limits).copies(pl.Series(texts))
            taken = copies.with_columns(text=pl.Series(texts)).filter(pl.col("evaluation").is_not_null())
            for row in taken.head(args.show).iter_rows():
                print(name, row)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
