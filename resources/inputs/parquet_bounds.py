"""Bounds of Parquet files from outside: a small one may state any number of rows, and repeat one text in all of them.

Belongs here: what may be read into memory. Not here: reading it (`evaluation_sets.py`, `corpus_files.py`).
"""

from __future__ import annotations

from pathlib import Path

import polars as pl

ROWS_MAX = 100_000_000
"""Maximum rows of a Parquet file (ours)."""
RATIO_MAX, RATIO_BYTES = 100, 64_000_000
"""A packed file that unpacks to more than 100 times its size, and to more than 64 MB, is refused (ours: text unpacks to 3 to 20 times)."""


def check_parquet(file: Path, rows_max: int = ROWS_MAX) -> None:
    """Raise ValueError for a Parquet file that has too many rows, or whose texts are far larger than the file.

    Raises:
        ValueError: it has more rows or text than the bounds.
        polars.exceptions.PolarsError: it is no Parquet file.
    """
    schema = pl.read_parquet_schema(file)
    table = pl.scan_parquet(file)
    rows = table.select(pl.len()).collect().item()
    if rows > rows_max:
        raise ValueError(f"it has {rows:,} rows, and at most {rows_max:,} are read")
    most = max(RATIO_BYTES, RATIO_MAX * file.stat().st_size)
    texts = [pl.col(name).str.len_bytes().cast(pl.Int64).sum() for name, kind in schema.items() if kind == pl.String]
    if texts and (size := table.select(pl.sum_horizontal(texts)).collect(engine="streaming").item()) > most:
        raise ValueError(f"its texts have {size:,} bytes, more than {RATIO_MAX} times the size of the file")
