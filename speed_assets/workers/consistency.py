"""Whether a row agrees with the other rows: models trained on some folds of the rows judge the rows of another.

No model here judges a row that it was trained on, so a fault that is rare among the rows stands out (cross-fitting,
as in confident learning, Northcutt et al. 2021). Two questions are asked: is each text of a row in the place of such
texts (a query where queries are), and does the query fit its positive better than its negative.

Belongs here: training and asking those models. Not here: any threshold.
"""

from __future__ import annotations

import time
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
import torch
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.linear_model import LogisticRegression

from speed_assets.domain.task_types import TASK_TYPES, TRIPLET_FIELDS
from speed_assets.workers.host import Report
from speed_assets.workers.jobs import Consistency, Params

WORD = r"\w+"


def run(params: Params, report: Report) -> dict[str, Any]:
    """Write (row_id, role, margin) of each row of the table `rows` to `out`, in their order.

    `role` in 0..1 is the least probability, over the texts of the row, that the text belongs in its place;
    labels have none. `margin` in -1..1 is the probability that the positive answers the query less the probability
    that the negative does, 1 where there is no negative to compare.

    Args:
        params: of a job of kind `Consistency`.
        report: gets the progress, in folds.
    """
    job = Consistency.read(params)
    started = time.monotonic()
    rows = pl.read_parquet(job.rows)
    generator = np.random.default_rng(job.seed)
    folds = generator.permutation(rows.height) % job.folds
    role, margin = np.ones(rows.height), np.ones(rows.height)
    complete = rows.select(pl.col("query").is_not_null() & pl.col("positive").is_not_null()).to_series().to_numpy()
    if complete.sum() >= 2 * job.folds:
        matcher, roles = Matcher(rows, job), Roles(rows, job)
        for fold in range(job.folds):
            train = np.flatnonzero(complete & (folds != fold))
            if len(train) > job.rows_max:
                train = np.sort(generator.choice(train, job.rows_max, replace=False))
            judged = np.flatnonzero(complete & (folds == fold))
            role[judged] = roles.of(train, judged)
            margin[judged] = matcher.of(train, judged, job.seed + fold)
            report(fold + 1, job.folds, "folds")
    scores = rows.select("row_id").with_columns(pl.Series("role", role), pl.Series("margin", margin))
    scores.write_parquet(job.out)
    return {"rows": rows.height, "seconds": round(time.monotonic() - started, 3)}


class Roles:
    """Tells the queries of asymmetric task types from all other texts."""

    def __init__(self, rows: pl.DataFrame, job: Consistency) -> None:
        self.strength = job.role_c
        texts: list[str] = []
        owners: list[int] = []
        queries: list[bool] = []
        for row, (task_type, *fields) in enumerate(rows.select("task_type", *TRIPLET_FIELDS).iter_rows()):
            for field, text in zip(TRIPLET_FIELDS, fields, strict=True):
                if text is not None and (field == "query" or not TASK_TYPES[task_type].labels):
                    texts.append(text)
                    owners.append(row)
                    queries.append(field == "query" and task_type in job.asymmetric)
        self.owners, self.queries = np.array(owners), np.array(queries)
        self.features: Any = vectorizer(job, (1, 2)).fit_transform(texts) if texts else None

    def of(self, train: np.ndarray, judged: np.ndarray) -> np.ndarray:
        """The role of each judged row; 1 where the training rows know one role only."""
        learned, asked = np.isin(self.owners, train), np.isin(self.owners, judged)
        role = np.ones(len(judged))
        if len(set(self.queries[learned].tolist())) < 2:
            return role
        model = LogisticRegression(C=self.strength, max_iter=200).fit(self.features[learned], self.queries[learned])
        query = model.predict_proba(self.features[asked])[:, 1]
        right = np.where(self.queries[asked], query, 1 - query)
        np.minimum.at(role, np.searchsorted(judged, self.owners[asked]), right)
        return role


class Matcher:
    """Tells whether two texts belong together, from a vector for each word, one table for queries, one for the rest."""

    def __init__(self, rows: pl.DataFrame, job: Consistency) -> None:
        self.job = job
        texts = [rows[field].fill_null("").to_list() for field in TRIPLET_FIELDS]
        counts = vectorizer(job, (1, 1))
        counts.fit([text for column in texts for text in column])
        self.words = len(counts.vocabulary_)
        self.query, self.positive, self.negative = (as_bags(counts.transform(column)) for column in texts)
        self.contrasted = rows["negative"].is_not_null().to_numpy()
        kinds = rows["task_type"].rank("dense").to_numpy().astype(int)
        self.kinds = kinds

    def of(self, train: np.ndarray, judged: np.ndarray, seed: int) -> np.ndarray:
        """The margin of each judged row."""
        torch.manual_seed(seed)
        job, width = self.job, self.job.dimensions
        tables = [torch.nn.EmbeddingBag(self.words + 1, width, mode="mean", padding_idx=0) for _ in range(2)]
        for table in tables:
            torch.nn.init.normal_(table.weight, std=0.3)
            with torch.no_grad():
                table.weight[0] = 0
        bias, scale = torch.nn.Parameter(torch.zeros(1)), torch.nn.Parameter(torch.full((1,), 3.0))
        weights = [*(table.weight for table in tables), bias, scale]
        optimizer = torch.optim.AdamW(weights, lr=job.learning_rate, weight_decay=job.weight_decay)

        def logits(queries: np.ndarray, bags: torch.Tensor, others: np.ndarray) -> torch.Tensor:
            products: torch.Tensor = tables[0](self.query[queries]) * tables[1](bags[others])
            return products.sum(-1) * scale + bias

        draws = np.random.default_rng(seed)
        others = {kind: train[self.kinds[train] == kind] for kind in set(self.kinds[train].tolist())}
        pool = np.concatenate(list(others.values()))
        sizes = {kind: len(rows) for kind, rows in others.items()}
        starts = dict(zip(others, np.cumsum([0, *sizes.values()]).tolist(), strict=False))
        size, start = (np.array([table.get(kind, 0) for kind in self.kinds]) for table in (sizes, starts))
        for _ in range(job.epochs):
            for batch in np.array_split(draws.permutation(train), max(1, len(train) // job.batch_rows)):
                contrasted = batch[self.contrasted[batch]]
                stranger = pool[start[batch] + draws.integers(size[batch])]  # of the same task type
                parts = [
                    (logits(batch, self.positive, batch), 1.0),
                    (logits(batch, self.positive, stranger), 0.0),
                    (logits(contrasted, self.negative, contrasted), 0.0),
                ]
                predicted = torch.cat([part for part, _ in parts])
                true = torch.cat([torch.full_like(part, value) for part, value in parts])
                optimizer.zero_grad()
                torch.nn.functional.binary_cross_entropy_with_logits(predicted, true).backward()
                optimizer.step()
        with torch.no_grad():
            fits = torch.sigmoid(logits(judged, self.positive, judged)).numpy()
            misfits = torch.sigmoid(logits(judged, self.negative, judged)).numpy()
        return np.where(self.contrasted[judged], fits - misfits, 1.0)


def vectorizer(job: Consistency, words: tuple[int, int]) -> CountVectorizer:
    """Which words, or runs of words, a text holds."""
    return CountVectorizer(
        token_pattern=WORD,
        ngram_range=words,
        min_df=job.word_rows_min,
        max_features=job.words_max,
        binary=True,
    )


def as_bags(counts: Any) -> torch.Tensor:
    """(texts, most words of a text) numbers of the words of each text, from 1; 0 fills up."""
    bags = torch.zeros(counts.shape[0], max(1, int(np.diff(counts.indptr).max(initial=0))), dtype=torch.long)
    for text, (start, stop) in enumerate(pairwise(counts.indptr)):
        bags[text, : stop - start] = torch.from_numpy(counts.indices[start:stop].astype(np.int64)) + 1
    return bags
