"""Is the new model better? A paired bootstrap over queries, as the gates of a release use it.

    python examples/compare_models.py new.csv old.csv

Each file has a column `score`: one score a query (nDCG, accuracy, ...), the same queries in the same order.
"""

import sys

import polars as pl

import speed_assets as speed

if len(sys.argv) != 3:
    sys.exit(__doc__)
new, old = (pl.read_csv(file)["score"].to_list() for file in sys.argv[1:])
found = speed.compare(new, old)
low, high = found.interval(0.05)
verdict = "better" if low > 0 else "worse" if high < 0 else "undecided: take more queries"
print(f"{len(new)} queries: {found.value:+.4f}, 95 % interval {low:+.4f} to {high:+.4f}: {verdict}")
