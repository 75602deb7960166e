"""What two orders of a judge agree on, in a simulation: `python -m benchmarks.agreement`.

A judge's reading of a candidate is its quality, drawn from N(0, 1), with noise and a leaning to early places. Printed are, for
each judge and `margin_min`, the share of prompts that make a pair, the share of pairs whose chosen answer is better, and
the mean gap in quality.

Belongs here: the simulation. Not here: agreement itself (`speed_assets/domain/judging.py`).
"""

from __future__ import annotations

import random

from speed_assets.domain.judging import Order, agreed_preference, judge_contradicts_itself, presentation_orders
from speed_assets.domain.parsing import Verdict

PROMPTS, CANDIDATES, SEED = 4000, 5, 12
JUDGES = ((0.3, 0.0), (0.7, 0.0), (1.0, 0.3), (1.5, 0.3), (3.0, 0.0), (100.0, 0.0), (1.0, 3.0))
"""(standard deviation of the noise, favour of one place over the next) of each judge."""
MARGINS = (0.5, 0.75, 1.0)


def main() -> None:
    """Print one line for each judge."""
    rng = random.Random(SEED)
    names = [f"t{number}" for number in range(CANDIDATES)]
    for noise, bias in JUDGES:
        judged: list[tuple[list[float], list[tuple[Order, Verdict | str]]]] = []
        for _ in range(PROMPTS):
            quality = [rng.gauss(0, 1) for _ in names]
            verdicts: list[tuple[Order, Verdict | str]] = []
            for order in presentation_orders(CANDIDATES):
                seen = [
                    quality[candidate] + rng.gauss(0, noise) + bias * (CANDIDATES / 2 - place)
                    for place, candidate in enumerate(order)
                ]
                verdicts.append((order, Verdict(seen.index(max(seen)), seen.index(min(seen)), "")))
            judged.append((quality, verdicts))
        against = sum(bool(judge_contradicts_itself(names, verdicts)) for _, verdicts in judged) / PROMPTS
        cells = [f"noise {noise:g} bias {bias:g} contradictions {against:.3f}"]
        for margin in MARGINS:
            found = [(quality, agreed_preference(names, verdicts, margin)[0]) for quality, verdicts in judged]
            gaps = [q[names.index(p.chosen)] - q[names.index(p.rejected)] for q, p in found if p is not None]
            right, mean = (sum(gap > 0 for gap in gaps) / len(gaps), sum(gaps) / len(gaps)) if gaps else (0.0, 0.0)
            cells.append(f"margin_min {margin:g}: pairs {len(gaps) / PROMPTS:.2f} right {right:.3f} gap {mean:.2f}")
        print(" | ".join(cells))


if __name__ == "__main__":
    main()
