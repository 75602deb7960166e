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

texts, query = ["Hold the red button for five seconds.", "The pump weighs 4 kg."], "how do I reset the pump"
for file in sorted((release.path / "data").glob("*/train.parquet")):  # none where all rows are kept back
    rows = pl.read_parquet(file)
    print(f"{file.parent.name}: {len(rows)} rows, such as {rows['query'][0][:60]!r}")
    texts, query = rows["positive"].head(100).to_list(), rows["query"][0]

model = SentenceTransformer(str(release.path / "model"), device="cpu")
best = int(model.similarity(model.encode_query(query), model.encode_document(texts)).argmax())
print(f"nearest of {len(texts)} texts to {query[:60]!r}: {texts[best][:60]!r}")
