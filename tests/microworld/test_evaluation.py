"""The held-out evaluation sets: reproducible, on topics of their own, and not to be solved by words in common."""

from __future__ import annotations

import pytest

from speed_assets.microworld import toy_language as lang
from speed_assets.microworld.evaluation import STS_SHARES, UNHEARD, EvaluationSets, evaluation_sets


@pytest.fixture(scope="module")
def sets() -> EvaluationSets:
    return evaluation_sets(topics=16, rows=120, seed=5)


def _topic(text: str, sets: EvaluationSets) -> str:
    return max((t for t in sets.topics if f" {t} " in f" {text.translate(str.maketrans(',.:', '   '))} "), key=len)


def _theme(text: str, sets: EvaluationSets) -> tuple[str, str | None]:
    topic = _topic(text, sets)
    return topic, lang.read_text(text, topic).aspect


def test_same_arguments_same_sets_and_another_seed_others(sets: EvaluationSets) -> None:
    assert evaluation_sets(16, 120, 5) == sets
    other = evaluation_sets(16, 120, 6)
    assert not set(other.topics) & set(sets.topics)


def test_topics_are_distinct_and_no_words_of_english(sets: EvaluationSets) -> None:
    assert len(set(sets.topics)) == 16
    for topic in sets.topics:
        assert any(pair in word for word in topic.split() for pair in UNHEARD)
        assert 1 <= len(topic.split()) <= 2
        assert not set(topic.split()) & set(lang.CUE_ASPECT)


def test_every_task_has_its_rows(sets: EvaluationSets) -> None:
    assert len(sets.retrieval.queries) == len(sets.reranking.queries) == 120
    for labelled in (sets.classification_train, sets.classification_test, sets.clustering):
        assert len(labelled.texts) == len(labelled.labels) == 120
        assert set(labelled.labels) == set(lang.ASPECTS)
    for pairs in (sets.sts, sets.pair_classification):
        assert len(pairs.first) == len(pairs.second) == len(pairs.scores) == 120
    texts = sets.all_texts()
    assert set(texts) == {"retrieval", "sts", "classification", "clustering", "pair_classification", "reranking"}
    assert sum(map(len, texts.values())) > 120 * 15


def test_retrieval_answers_are_all_documents_of_the_theme_and_no_others(sets: EvaluationSets) -> None:
    themes = {name: _theme(text, sets) for name, text in sets.retrieval.corpus.items()}
    assert set(themes.values()) == {(t, a) for t in sets.topics for a in lang.ASPECTS}
    for query, text in sets.retrieval.queries.items():
        right = {name for name, theme in themes.items() if theme == _theme(text, sets)}
        assert set(sets.retrieval.relevant[query]) == right
        assert 1 <= len(right) <= 3


def test_reranking_candidates_hold_the_answers_and_near_misses(sets: EvaluationSets) -> None:
    ranking = sets.reranking
    assert ranking.candidates is not None
    places = set()
    for query, text in ranking.queries.items():
        topic, aspect = _theme(text, sets)
        candidates = {name: _theme(ranking.corpus[name], sets) for name in ranking.candidates[query]}
        assert len(candidates) == 10
        assert {name for name, theme in candidates.items() if theme == (topic, aspect)} == set(ranking.relevant[query])
        wrong = [theme for theme in candidates.values() if theme != (topic, aspect)]
        assert all((t == topic) != (a == aspect) for t, a in wrong)
        assert (topic, lang.SIBLING[str(aspect)]) in wrong
        places.add(ranking.candidates[query].index(ranking.relevant[query][0]))
    assert len(places) > 5, "the place of the answer gives it away"


def test_classification_topics_and_cues_are_new_in_the_test_split(sets: EvaluationSets) -> None:
    def words(texts: tuple[str, ...]) -> set[str]:
        return {w for t in texts for w in t.translate(str.maketrans(",.:", "   ")).split() if w in lang.CUE_ASPECT}

    train, test = sets.classification_train, sets.classification_test
    assert not {_topic(t, sets) for t in train.texts} & {_topic(t, sets) for t in test.texts}
    assert not words(train.texts) & words(test.texts)
    for text, label in [*zip(train.texts, train.labels, strict=True), *zip(test.texts, test.labels, strict=True)]:
        assert _theme(text, sets)[1] == label


def test_pairs_are_scored_by_their_truth_and_share_no_cue(sets: EvaluationSets) -> None:
    for pairs in (sets.sts, sets.pair_classification):
        for first, second, score in zip(pairs.first, pairs.second, pairs.scores, strict=True):
            (topic, aspect), (other_topic, other_aspect) = _theme(first, sets), _theme(second, sets)
            relation = ("same" if topic == other_topic else "other", "same" if aspect == other_aspect else "other")
            expected = STS_SHARES[relation][0] if pairs is sets.sts else float(relation == ("same", "same"))
            assert score == expected
            assert not {w for w in first.split() if w in lang.CUE_ASPECT} & set(second.replace(",", "").split())


def test_shares_of_pairs() -> None:
    sets = evaluation_sets(topics=8, rows=2000, seed=1)
    assert sum(share for _, share in STS_SHARES.values()) == pytest.approx(1)
    assert sets.sts.scores.count(5.0) / 2000 == pytest.approx(STS_SHARES["same", "same"][1], abs=0.04)
    assert sum(sets.pair_classification.scores) / 2000 == pytest.approx(0.4)


@pytest.mark.parametrize(("topics", "rows"), [(3, 120), (16, 11)])
def test_too_little_is_refused(topics: int, rows: int) -> None:
    with pytest.raises(ValueError, match="an evaluation needs"):
        evaluation_sets(topics, rows, 1)
