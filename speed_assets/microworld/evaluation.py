"""Held-out evaluation sets of the microworld, on topics that no topic file holds.

Query cues and document cues are disjoint and pairs are written without a common cue, so words in
common show the topic and never the aspect. Distractors share one of the two: the same topic under
another aspect (its sibling above all), or the same aspect of another topic.

Belongs here: texts and right answers. Not here: scoring (`workers/evaluate.py`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from speed_assets.domain.evaluation_folders import FIELDS
from speed_assets.domain.fingerprints import seed_for
from speed_assets.microworld import toy_language as lang
from speed_assets.microworld.pretraining import pseudo_word

EVALUATION_VERSION = "1"
TASK_NAMES = tuple(f"Microworld{kind}" for kind in FIELDS)
"""What scores call the sets."""

UNHEARD = ["bq", "cj", "fq", "gx", "hx", "jb", "jq", "jv", "kx", "qg", "qk", "qz", "vj", "vq", "wq", "xj", "zx"]
"""Letter pairs that no English word contains; every held-out topic does."""

STS_SHARES: dict[tuple[str, str], tuple[float, float]] = {
    ("same", "same"): (5.0, 0.35),
    ("same", "sibling"): (2.0, 0.25),
    ("same", "other"): (2.0, 0.2),
    ("other", "same"): (1.0, 0.1),
    ("other", "other"): (0.0, 0.1),
}
"""(topic, aspect) of the second text, relative to the first: (score 0..5, share of pairs). Most pairs share
their topic, or else finding the topic would be most of the score. A sibling scores as any other aspect:
it is the hard negative of every record, so the better a model learns, the further away it puts it."""

_DISTRACTORS = (("same", "sibling"), ("same", "other"), ("other", "same"))
_CANDIDATES = 10


@dataclass(frozen=True, slots=True)
class Ranking:
    """Queries against documents. `candidates` holds the documents to be ranked of each query, or None for all."""

    corpus: dict[str, str]
    queries: dict[str, str]
    relevant: dict[str, tuple[str, ...]]
    candidates: dict[str, tuple[str, ...]] | None = None


@dataclass(frozen=True, slots=True)
class Pairs:
    """Pairs of texts, each with a score: 0..5 for similarity, 0 or 1 for a class."""

    first: tuple[str, ...]
    second: tuple[str, ...]
    scores: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Labelled:
    """Texts and the aspect of each."""

    texts: tuple[str, ...]
    labels: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class EvaluationSets:
    """Six tasks. The topics of `classification_train` are not those of `classification_test`."""

    topics: tuple[str, ...]
    retrieval: Ranking
    sts: Pairs
    classification_train: Labelled
    classification_test: Labelled
    clustering: Labelled
    pair_classification: Pairs
    reranking: Ranking

    def all_texts(self) -> dict[str, list[str]]:
        """Every text of each task, for decontamination."""
        return {
            "retrieval": [*self.retrieval.corpus.values(), *self.retrieval.queries.values()],
            "sts": [*self.sts.first, *self.sts.second],
            "classification": [*self.classification_train.texts, *self.classification_test.texts],
            "clustering": list(self.clustering.texts),
            "pair_classification": [*self.pair_classification.first, *self.pair_classification.second],
            "reranking": [*self.reranking.corpus.values(), *self.reranking.queries.values()],
        }


def evaluation_sets(topics: int, rows: int, seed: int) -> EvaluationSets:
    """The six tasks. The same arguments give the same sets.

    Args:
        topics: Invented topics, at least 4.
        rows: Queries, pairs or texts in each task.
        seed: Of all draws.

    Raises:
        ValueError: There are too few topics or rows.
    """
    if topics < 4 or rows < len(lang.ASPECTS):
        raise ValueError(f"an evaluation needs 4 topics and {len(lang.ASPECTS)} rows, got {topics} and {rows}")

    root = seed_for(seed, "evaluation")

    def draws(task: str) -> random.Random:
        return random.Random(seed_for(root, "microworld-evaluation", task))

    names = invent_topics(topics, draws("topics"))
    half = topics // 2
    return EvaluationSets(
        topics=names,
        retrieval=_retrieval(names, rows, draws("retrieval")),
        sts=_graded_pairs(names, rows, draws("sts")),
        classification_train=_labelled(names[:half], rows, (_document,), draws("classification-train")),
        classification_test=_labelled(names[half:], rows, (lang.write_query,), draws("classification-test")),
        clustering=_labelled(names, rows, (lang.write_query, _document), draws("clustering")),
        pair_classification=_agreeing_pairs(names, rows, draws("pair-classification")),
        reranking=_reranking(names, rows, draws("reranking")),
    )


def invent_topics(count: int, rng: random.Random) -> tuple[str, ...]:
    """Distinct phrases of one or two pronounceable words, one of them with a letter pair that English lacks."""
    found: dict[str, None] = {}
    while len(found) < count:
        words = [pseudo_word(rng)[:3] + rng.choice(UNHEARD) + pseudo_word(rng)[:3]]
        if rng.random() < 0.5 and (second := pseudo_word(rng)) not in lang.CUE_ASPECT:
            words.insert(rng.randrange(2), second)
        found[" ".join(words)] = None
    return tuple(found)


def _document(topic: str, aspect: str, rng: random.Random) -> str:
    """A text in document cues: a phrase one time in four, as records have both."""
    return lang.write_short(topic, aspect, rng) if rng.random() < 0.25 else lang.write_document(topic, aspect, rng)


def _evenly(values: Sequence[str], rng: random.Random) -> Iterator[str]:
    """Values without end, each as often as any other."""
    while True:
        yield from rng.sample(values, len(values))


def _related_theme(
    topic: str, aspect: str, relation: tuple[str, str], topics: Sequence[str], rng: random.Random
) -> tuple[str, str]:
    """The (topic, aspect) in the given relation to a (topic, aspect)."""
    near, sibling = {aspect, lang.SIBLING[aspect]}, lang.SIBLING[aspect]
    other_topic = topic if relation[0] == "same" else rng.choice([t for t in topics if t != topic])
    if relation[1] == "other":
        return other_topic, rng.choice([a for a in lang.ASPECTS if a not in near])
    return other_topic, aspect if relation[1] == "same" else sibling


def _cues(text: str) -> set[str]:
    return {
        word for word in text.replace(",", " ").replace(".", " ").replace(":", " ").split() if word in lang.CUE_ASPECT
    }


def _pair(first: tuple[str, str], second: tuple[str, str], rng: random.Random) -> tuple[str, str]:
    """Two texts on the given (topic, aspect)s without a cue in common: query and document, or two documents."""
    text = lang.write_query(*first, rng) if rng.random() < 0.5 else _document(*first, rng)
    while _cues(text) & _cues(other := _document(*second, rng)):
        pass
    return text, other


def _pairs(topics: Sequence[str], relations: Sequence[tuple[tuple[str, str], float]], rng: random.Random) -> Pairs:
    themes = zip(_evenly(topics, rng), _evenly(lang.ASPECTS, rng), strict=False)
    texts, scores = [], []
    for (topic, aspect), (relation, score) in zip(themes, relations, strict=False):
        texts.append(_pair((topic, aspect), _related_theme(topic, aspect, relation, topics, rng), rng))
        scores.append(score)
    first, second = zip(*texts, strict=True)
    return Pairs(first, second, tuple(scores))


def _graded_pairs(topics: Sequence[str], rows: int, rng: random.Random) -> Pairs:
    shares = [share for _, share in STS_SHARES.values()]
    drawn = rng.choices(list(STS_SHARES), shares, k=rows)
    return _pairs(topics, [(relation, STS_SHARES[relation][0]) for relation in drawn], rng)


def _agreeing_pairs(topics: Sequence[str], rows: int, rng: random.Random) -> Pairs:
    """Two in five pairs agree; the distractors are shared out evenly over the others."""
    relations: list[tuple[tuple[str, str], float]] = []
    distractors = _evenly([str(i) for i in range(len(_DISTRACTORS))], rng)
    for row in range(rows):
        relations.append((("same", "same"), 1.0) if row % 5 < 2 else (_DISTRACTORS[int(next(distractors))], 0.0))
    return _pairs(topics, relations, rng)


def _labelled(
    topics: Sequence[str], rows: int, writers: Sequence[Callable[[str, str, random.Random], str]], rng: random.Random
) -> Labelled:
    aspects, themes = _evenly(lang.ASPECTS, rng), _evenly(topics, rng)
    labels = [next(aspects) for _ in range(rows)]
    return Labelled(tuple(rng.choice(writers)(next(themes), label, rng) for label in labels), tuple(labels))


def _retrieval(topics: Sequence[str], rows: int, rng: random.Random) -> Ranking:
    """The corpus speaks of every topic under every aspect, in one to three documents."""
    corpus: dict[str, str] = {}
    about: dict[tuple[str, str], tuple[str, ...]] = {}
    for topic in topics:
        for aspect in lang.ASPECTS:
            ids = []
            for _ in range(rng.randint(1, 3)):
                ids.append(f"d{len(corpus)}")
                corpus[ids[-1]] = _document(topic, aspect, rng)
            about[topic, aspect] = tuple(ids)
    queries: dict[str, str] = {}
    relevant: dict[str, tuple[str, ...]] = {}
    for row, topic, aspect in zip(range(rows), _evenly(topics, rng), _evenly(lang.ASPECTS, rng), strict=False):
        queries[f"q{row}"] = lang.write_query(topic, aspect, rng)
        relevant[f"q{row}"] = about[topic, aspect]
    return Ranking(corpus, queries, relevant)


def _reranking(topics: Sequence[str], rows: int, rng: random.Random) -> Ranking:
    """Ten candidates for each query: one to three that answer it, and distractors of every kind in turn."""
    corpus: dict[str, str] = {}
    queries: dict[str, str] = {}
    relevant: dict[str, tuple[str, ...]] = {}
    candidates: dict[str, tuple[str, ...]] = {}
    for row, topic, aspect in zip(range(rows), _evenly(topics, rng), _evenly(lang.ASPECTS, rng), strict=False):
        right = rng.randint(1, 3)
        ids = [f"d{row}-{place}" for place in range(_CANDIDATES)]
        for place, name in enumerate(ids):
            relation = ("same", "same") if place < right else _DISTRACTORS[place % len(_DISTRACTORS)]
            corpus[name] = _document(*_related_theme(topic, aspect, relation, topics, rng), rng)
        queries[f"q{row}"] = lang.write_query(topic, aspect, rng)
        relevant[f"q{row}"] = tuple(ids[:right])
        candidates[f"q{row}"] = tuple(rng.sample(ids, len(ids)))
    return Ranking(corpus, queries, relevant, candidates)
