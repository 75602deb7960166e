"""A release in any folder: what it is made of, its rows, its model.

    python examples/use_release.py .speed/releases/current/offline

Needs the extra `train` for the model (`pip install 'speed-assets[train]'`).
"""

import sys

import polars as pl
from sentence_transformers import SentenceTransformer

import speed_assets as speed

if len(sys.argv) != 2:
    sys.exit(__doc__)
release = speed.open_release(sys.argv[1])
print(f"release {release.short} of recipe {release.recipe}")

for file in sorted((release.path / "data").glob("*/train.parquet")):
    rows = pl.read_parquet(file)
    print(f"{file.parent.name}: {len(rows)} rows, such as {rows['query'][0][:60]!r}")

model = SentenceTransformer(str(release.path / "model"), device="cpu")
texts = pl.read_parquet(file)["positive"].head(100).to_list()
vectors = model.encode_document(texts)
query = model.encode_query(pl.read_parquet(file)["query"][0])
best = int(model.similarity(query, vectors).argmax())
print(f"nearest of {len(texts)} texts to the first query: {texts[best][:60]!r}")
