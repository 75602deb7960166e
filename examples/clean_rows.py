"""Clean a table of texts: remove rows that repeat others, and rows that contain questions of a test set.

    python examples/clean_rows.py rows.csv query questions.txt

The first file is a CSV with a column of texts, the second has one question of the test set a line. Writes `rows.clean.csv`.
"""

import sys
from pathlib import Path

import polars as pl

import speed_assets as speed

if len(sys.argv) != 4:
    sys.exit(__doc__)
table, column, questions = sys.argv[1:]
rows = pl.read_csv(table)
texts = rows[column].to_list()

repeats = speed.near_duplicates(texts)["repeats"]
tests = {Path(questions).stem: Path(questions).read_text(encoding="utf-8").splitlines()}
copies = speed.contamination(texts, tests)

clean = rows.filter(repeats.is_null() & copies["evaluation"].is_null())
clean.write_csv(Path(table).with_suffix(".clean.csv"))
print(f"{len(rows)} rows, {repeats.count()} repeat another, {copies['evaluation'].count()} contain a test question")
print(f"{len(clean)} rows kept")
