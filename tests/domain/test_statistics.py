"""Statistics of scores: known answers, the libraries' own answers, and how often a verdict is wrong."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import linregress, norm, spearmanr, t, ttest_1samp
from sklearn.metrics import average_precision_score

from speed_assets.domain.statistics import (
    Difference,
    Part,
    TaskSamples,
    compare,
    holm,
    log_linear,
    mean_interval,
    mean_over_tasks,
    non_inferiority,
    paired_by_seed,
    seed_noise,
    superiority,
    weighted_average_precision,
    weighted_mean,
    weighted_spearman,
)


def means(score: np.ndarray, statistic: str = "mean") -> TaskSamples:
    return {"test/default": Part(statistic, tuple(map(str, range(len(score)))), score=np.asarray(score, float))}


def pairs(predicted: np.ndarray, gold: np.ndarray, statistic: str = "spearman") -> TaskSamples:
    names = tuple(map(str, range(len(gold))))
    return {
        "test/default": Part(statistic, names, predicted=np.asarray(predicted, float), gold=np.asarray(gold, float))
    }


def difference(*values: float, name: str = "task", draws: int = 2000) -> Difference:
    """A difference of that mean whose draws are normal quantiles of that standard error."""
    value, error = values
    return Difference(name, value, 0.0, 100, value + error * norm.ppf((np.arange(draws) + 0.5) / draws), None)


# Statistics under counts


ROWS = st.lists(st.tuples(st.integers(0, 4), st.integers(0, 4), st.integers(0, 3)), min_size=3, max_size=25)


@given(ROWS)
def test_a_statistic_under_counts_is_that_of_the_samples_written_out(rows: list[tuple[int, int, int]]) -> None:
    first, second, counts = (np.array(column) for column in zip(*rows, strict=True))
    counts[0] += 1  # an empty draw does not occur
    once = counts[None, :].astype(float)
    a, b = np.repeat(first, counts), np.repeat(second, counts)
    assert weighted_mean(once, first)[0] == pytest.approx(a.mean())
    if np.ptp(a) and np.ptp(b):
        assert weighted_spearman(once, first, second)[0] == pytest.approx(spearmanr(a, b).statistic)
    else:
        assert weighted_spearman(once, first, second)[0] == 0
    gold = b > 1
    wanted = average_precision_score(gold, a) if gold.any() else 0
    assert weighted_average_precision(once, first, second > 1)[0] == pytest.approx(wanted)


# Draws


@pytest.mark.parametrize("levels", [None, 10], ids=["every value its own", "shares of ten"])
def test_the_error_of_a_mean_is_the_textbooks(levels: int | None) -> None:
    rng = np.random.default_rng(0)
    ours, theirs = rng.random((2, 1500))
    if levels:
        ours, theirs = np.round(ours * levels) / levels, np.round(theirs * levels) / levels
    found = compare("task", [means(ours)], [means(theirs)], resamples=4000, seed=1)
    gaps = ours - theirs
    assert found.value == pytest.approx(gaps.mean())
    assert found.draws.mean() == pytest.approx(gaps.mean(), abs=1e-3)
    assert found.error == pytest.approx(gaps.std() / np.sqrt(gaps.size), rel=0.05)
    low, high = found.interval(0.05)
    assert (low, high) == pytest.approx((found.value - 1.96 * found.error, found.value + 1.96 * found.error), abs=2e-3)


def test_the_error_of_a_rank_correlation_is_fishers() -> None:
    rng = np.random.default_rng(1)
    gold = rng.normal(size=400)
    ours = gold + rng.normal(size=400)
    nothing = rng.normal(size=400)
    found = compare("task", [pairs(ours, gold)], [pairs(nothing, gold)], resamples=2000, seed=1)
    rho = spearmanr(ours, gold).statistic, spearmanr(nothing, gold).statistic
    assert found.value == pytest.approx(rho[0] - rho[1])
    wanted = np.hypot(*[(1 - r * r) * np.sqrt(1 + r * r / 2) / np.sqrt(397) for r in rho])  # Bonett and Wright 2000
    assert found.error == pytest.approx(wanted, rel=0.15)


def test_pairing_takes_out_what_both_models_find_hard() -> None:
    rng = np.random.default_rng(2)
    hardness = rng.random(500)
    ours, theirs = (np.clip(hardness + rng.normal(shift, 0.02, 500), 0, 2) for shift in (0.51, 0.5))
    paired = compare("task", [means(ours)], [means(theirs)], resamples=2000, seed=1)
    assert superiority([paired], 0.05)[0].word == "better"
    apart = compare("task", [means(ours)], [means(rng.permutation(theirs))], resamples=2000, seed=1)
    assert superiority([apart], 0.05)[0].word == "undecided"


def test_draws_follow_the_seed() -> None:
    rng = np.random.default_rng(3)
    sides = [means(rng.random(50))], [means(rng.random(50))]
    one, same, other = (compare("task", *sides, resamples=200, seed=seed).draws for seed in (1, 1, 2))
    assert (one == same).all()
    assert (one != other).any()


def test_samples_that_differ_cannot_be_paired() -> None:
    with pytest.raises(ValueError, match="task: the two models have not answered the same samples"):
        compare("task", [means(np.zeros(3))], [means(np.zeros(4))], resamples=100, seed=1)


def test_the_spread_of_seeds_widens_the_interval() -> None:
    rng = np.random.default_rng(4)
    base = rng.random(2000)
    ours = [means(base + shift) for shift in (-0.05, 0.0, 0.05)]
    theirs = [means(base + shift) for shift in (-0.06, -0.01, 0.04)]
    single = compare("task", ours[1:2], theirs[1:2], resamples=2000, seed=1)
    several = compare("task", ours, theirs, resamples=2000, seed=1)
    assert superiority([single], 0.05)[0].word == "better"
    assert superiority([several], 0.05)[0].word == "undecided"
    assert several.noise == pytest.approx(0.05 * np.sqrt(2 / 3))
    assert seed_noise([[0.1], [0.2]]) is None


def test_replicates_are_draws_themselves() -> None:
    ours, theirs = np.array([0.5, 0.6, 0.7, 0.6]), np.array([0.4, 0.5, 0.5, 0.4])
    found = compare("task", [means(ours, "replicates")], [means(theirs, "replicates")], resamples=4000, seed=1)
    assert found.value == pytest.approx(0.15)
    low, high = found.interval(0.05)
    reach = 3.182 * (ours - theirs).std(ddof=1)  # Student's t with three degrees of freedom
    assert (low, high) == pytest.approx((0.15 - reach, 0.15 + reach), abs=0.05)


# Verdicts


@given(st.lists(st.floats(0, 1), min_size=1, max_size=12))
def test_holm_rejects_what_its_definition_rejects(p_values: list[float]) -> None:
    adjusted = holm(p_values)
    assert all(p <= a <= 1 for p, a in zip(p_values, adjusted, strict=True))
    assert max(adjusted) <= min(1, len(p_values) * max(p_values)) + 1e-12
    for alpha in (0.01, 0.05, 0.2):
        rejected = set()
        for rank, place in enumerate(sorted(range(len(p_values)), key=lambda i: p_values[i])):
            if (len(p_values) - rank) * p_values[place] > alpha:
                break
            rejected.add(place)
        assert {place for place, a in enumerate(adjusted) if a <= alpha} == rejected


def test_verdicts_of_known_differences() -> None:
    known = [difference(0.03, 0.01), difference(-0.05, 0.01), difference(0.021, 0.01)]
    better, worse, close = superiority(known, 0.05)
    assert [better.word, worse.word, close.word] == ["better", "worse", "better"]
    assert better.p == pytest.approx(2 * norm.sf(3), abs=2e-3)
    assert close.p == pytest.approx(2 * norm.sf(2.1), abs=2e-3)
    assert better.adjusted == pytest.approx(2 * better.p)
    assert superiority([known[2], *[difference(0, 0.01)] * 3], 0.05)[0].word == "undecided", "one of four by chance"

    assert [v.word for v in non_inferiority(known, {"task": 0.02}, 0.05)] == ["no worse", "undecided", "no worse"]
    (near,) = non_inferiority([difference(-0.01, 0.01)], {"task": 0.02}, 0.05)
    assert near.word == "undecided"
    assert near.p == pytest.approx(norm.sf(1), abs=2e-3)


def test_too_few_draws_for_any_verdict_are_refused() -> None:
    with pytest.raises(ValueError, match="56 tasks at this alpha need at least 2240 resamples"):
        superiority([difference(0, 1)] * 56, 0.05)


def test_the_mean_over_tasks_has_the_error_of_independent_tasks() -> None:
    rng = np.random.default_rng(5)
    parts = [Difference(f"t{i}", 0.1 * i, 0.0, 10, 0.1 * i + rng.normal(0, 0.02, 4000), None) for i in range(4)]
    found = mean_over_tasks(parts)
    assert found.value == pytest.approx(0.15)
    assert found.error == pytest.approx(0.01, rel=0.05)


def test_how_often_equal_models_are_distinguished_and_a_loss_is_missed() -> None:
    """By simulation: verdicts on six tasks of 150 queries, 200 times."""
    rng = np.random.default_rng(6)
    wrong = missed = 0
    for trial in range(200):
        null, planted = [], []
        for task in range(6):
            hard = rng.beta(2, 1, 150)
            ours, theirs = (np.clip(hard + rng.normal(0, 0.1, 150), 0, 1) for _ in range(2))
            null.append(compare(f"t{task}", [means(ours)], [means(theirs)], resamples=400, seed=trial))
            planted.append(compare(f"t{task}", [means(ours - 0.05)], [means(theirs)], resamples=400, seed=trial))
        wrong += any(v.word != "undecided" for v in superiority(null, 0.05))
        missed += superiority([mean_over_tasks(planted)], 0.05)[0].word != "worse"
    assert wrong / 200 <= 0.09, "0.05 and three standard errors of 200 trials"
    assert missed == 0


# Several seeds, and the law of scaling


def test_by_seed_it_is_the_paired_t_test_where_samples_tell_nothing() -> None:
    """With as many samples as to leave no chance, what is left is Student's paired test over seeds."""
    values = [0.02, 0.05, 0.03, 0.06, 0.01]
    both = paired_by_seed(difference(float(np.mean(values)), 0.0, draws=40_000), values, seed=3)
    test = ttest_1samp(values, 0)
    (verdict,) = superiority([both], 0.05)
    assert verdict.p == pytest.approx(test.pvalue, abs=0.001)
    assert (verdict.low, verdict.high) == pytest.approx(tuple(test.confidence_interval(0.95)), abs=0.001)


def test_what_a_seed_does_to_both_sides_is_no_noise() -> None:
    rng = np.random.default_rng(4)
    level, hard = rng.normal(0, 0.2, 5), rng.normal(0, 0.1, 300)
    ours, theirs = ([means(hard + at + gain) for at in level] for gain in (0.02, 0.0))
    values = [
        float((a["test/default"].score - b["test/default"].score).mean()) for a, b in zip(ours, theirs, strict=True)
    ]
    apart = compare("task", ours, theirs, resamples=2000, seed=1)
    alone = compare("task", ours, theirs, resamples=2000, seed=1, noise=False)
    both = paired_by_seed(alone, values, seed=1)
    assert alone.noise is None
    assert both.error == pytest.approx(alone.error, abs=1e-6)
    assert apart.error > 0.05, "sides whose seeds have nothing to do with each other"
    assert both.value == pytest.approx(0.02)


def test_two_seeds_are_enough_for_an_interval_around_their_mean() -> None:
    low, high = paired_by_seed(difference(0.15, 0.001), [0.1, 0.2], seed=2).interval(0.05)
    assert (low + high) / 2 == pytest.approx(0.15, abs=0.01)
    assert high - low == pytest.approx(2 * t.ppf(0.975, 1) * 0.05, rel=0.05)


def test_one_seed_has_the_chance_of_its_samples_alone() -> None:
    one = difference(0.03, 0.01)
    assert paired_by_seed(one, [0.03], seed=1) is one


def test_two_ways_that_are_the_same_are_seldom_distinguished() -> None:
    """Samples that all seeds share, and seeds of their own."""
    rng = np.random.default_rng(5)
    wrong = 0
    for trial in range(400):
        shared, values = rng.normal(0, 0.01), rng.normal(0, 0.02, 5)
        alone = difference(float(shared + values.mean()), 0.01, draws=400)
        (verdict,) = superiority([paired_by_seed(alone, values, trial)], 0.05)
        wrong += verdict.word != "undecided"
    assert wrong / 400 < 0.075, "about alpha, but for the chance of 400 trials"


def test_the_interval_of_a_mean_is_students() -> None:
    values = [0.71, 0.74, 0.69, 0.72]
    low, high = t.interval(0.95, 3, np.mean(values), np.std(values, ddof=1) / 2)
    found = mean_interval(values, 0.05)
    assert (found.low, found.high) == pytest.approx((low, high))


ROWS_OF = [[100, 200, 400, 800], [110, 190, 410, 790]]


def test_a_log_linear_law_is_found_again_whatever_the_seeds_levels() -> None:
    scores = [[level + 0.05 * np.log2(rows) for rows in seed] for level, seed in zip((0.1, 0.2), ROWS_OF, strict=True)]
    law = log_linear(ROWS_OF, scores, 0.05)
    assert (law.per_doubling, law.low, law.high, law.at_one) == pytest.approx((0.05, 0.05, 0.05, 0.15))
    assert (law.explained, law.off) == pytest.approx((1, 0))
    assert law.at([400]) == pytest.approx([0.15 + 0.05 * np.log2(400)])


def test_one_seeds_law_is_ordinary_least_squares() -> None:
    scores = [0.3, 0.42, 0.5, 0.61]
    law, line = log_linear(ROWS_OF[:1], [scores], 0.05), linregress(np.log2(ROWS_OF[0]), scores)
    half = t.ppf(0.975, 2) * line.stderr
    assert (law.per_doubling, law.low, law.high) == pytest.approx((line.slope, line.slope - half, line.slope + half))
    assert law.explained == pytest.approx(line.rvalue**2)


def test_seeds_whose_slopes_differ_widen_the_interval() -> None:
    same = log_linear([ROWS_OF[0]] * 3, [[s * k for k in range(4)] for s in (0.05, 0.05, 0.051)], 0.05)
    spread = log_linear([ROWS_OF[0]] * 3, [[s * k for k in range(4)] for s in (0.02, 0.05, 0.08)], 0.05)
    assert spread.high - spread.low > 10 * (same.high - same.low)
    assert (spread.low, spread.high) == pytest.approx(t.interval(0.95, 2, 0.05, 0.03 / np.sqrt(3)))


def test_a_curve_that_flattens_is_found_by_how_far_it_is_off() -> None:
    law = log_linear([ROWS_OF[0]] * 2, [[0.1, 0.5, 0.6, 0.6]] * 2, 0.05)
    assert law.off > 0.1
    assert law.explained < 0.9


@pytest.mark.parametrize(
    ("rows", "scores"), [([[1, 2]], [[0.1, 0.2]]), ([[5, 5, 5]], [[0.1, 0.2, 0.3]]), ([1, 2, 3], [0.1, 0.2, 0.3])]
)
def test_a_law_of_too_few_sizes_is_refused(rows: list, scores: list) -> None:
    with pytest.raises(ValueError, match="a law needs"):
        log_linear(rows, scores, 0.05)
