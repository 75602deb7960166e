"""The contrastive loss, and how a batch is embedded for it.

Belongs here: InfoNCE over a batch, embedding in parts, padding. Not here: which rows are in a batch (`embed.py`).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import torch
from sentence_transformers import SentenceTransformer
from sentence_transformers.base.losses.gradcache import RandContext
from sentence_transformers.sentence_transformer.losses import (
    CachedMultipleNegativesRankingLoss,
    MatryoshkaLoss,
    MultipleNegativesRankingLoss,
)
from sentence_transformers.sentence_transformer.modules import StaticEmbedding
from typing_extensions import override

from speed_assets.workers.training_jobs import EmbeddingSettings

Features = dict[str, Any]
MARGIN_UNIT = 1e-6
"""Margins stand among labels, which are whole numbers, in this unit."""
NO_MARGIN = -(2**40)


@dataclass
class Padding:
    """What was embedded: `tokens` of texts, and `run` through the model with pads."""

    tokens: int = 0
    run: int = 0

    def count(self, lengths: list[int], size: int) -> None:
        """Add texts of these lengths, embedded `size` at a time in this order."""
        self.tokens += sum(lengths)
        parts = (lengths[start : start + size] for start in range(0, len(lengths), size))
        self.run += sum(max(part) * len(part) for part in parts)

    @property
    def ratio(self) -> float | None:
        """Tokens run for one of a text; None where nothing was padded, as with static vectors."""
        return round(self.run / self.tokens, 4) if self.tokens else None


def as_label(margin: float | None) -> int:
    """A margin of two cosines as a whole number; None is unknown."""
    return NO_MARGIN if margin is None else round(margin / MARGIN_UNIT)


class RankingLoss(MultipleNegativesRankingLoss):
    """InfoNCE over in-batch and hard negatives, without texts that are certainly no negatives.

    Left out of a row's negatives is every text of the batch that equals the row's positive or its query,
    or that is the positive of another row with the same query. So a classification batch may be large,
    though its positives are a few labels: a no-duplicates sampler would cut it to as many rows as labels.

    With a `margin` every text of another row whose similarity exceeds the positive's by more is left out, too: it is
    probably an answer that nobody has marked. (sentence-transformers masks so with a second model only, GISTEmbedLoss.)

    With `distil` the squared error of each row's margins, its positive's cosine less that of a negative, from those of another model is
    added with this weight (as sentence-transformers' MarginMSELoss; after the ids, a row's labels hold the margins of its first negatives).

    Similarities and loss are float32 whatever the model runs in: times 50 (temperature 0.02), a cosine in bfloat16 has
    steps of 0.2.
    """

    def __init__(
        self, model: SentenceTransformer, scale: float, margin: float | None = None, distil: float = 0.0
    ) -> None:
        super().__init__(model, scale=scale)
        self.margin, self.distil = margin, distil
        self.padding = Padding()

    @override
    def forward(self, sentence_features: Iterable[Features], labels: torch.Tensor) -> torch.Tensor:
        features = list(sentence_features)
        for column in features:
            if (lengths := _lengths(column)) is not None:
                self.padding.count(lengths.tolist(), len(lengths))
        return super().forward(features, labels)

    @override
    def compute_loss_from_embeddings(self, embeddings: list[torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
        """Mean loss; `embeddings` are (rows, dimensions) of each column, `labels` (rows, columns) text ids, and margins after them where
        they are learnt, at least one."""
        with torch.autocast(embeddings[0].device.type, enabled=False):
            vectors = [column.float() for column in embeddings]
            if not self.distil:
                return self._loss(vectors, labels)
            ids, margins = labels[:, : len(vectors)], labels[:, len(vectors) :]
            return self._loss(vectors, ids) + self.distil * self._margin_error(vectors, margins)

    def _margin_error(self, embeddings: list[torch.Tensor], margins: torch.Tensor) -> torch.Tensor:
        """Mean squared error over the margins that are known, of `margins` (rows, negatives); 0 where none is."""
        wanted, own = [], []
        for negative, margin in zip(embeddings[2:], margins.T, strict=False):
            known = margin != NO_MARGIN
            query, right, wrong = (
                torch.nn.functional.normalize(column[known]) for column in (*embeddings[:2], negative)
            )
            own.append((query * right).sum(dim=1) - (query * wrong).sum(dim=1))
            wanted.append(margin[known])
        if not sum(map(len, own)):
            return embeddings[0].sum() * 0
        margin_of_model = torch.cat(own)
        return torch.nn.functional.mse_loss(margin_of_model, torch.cat(wanted).to(margin_of_model.dtype) * MARGIN_UNIT)

    def _loss(self, embeddings: list[torch.Tensor], labels: torch.Tensor) -> torch.Tensor:
        queries, positives, documents = labels[:, :1], labels[:, 1:2], labels[:, 1:].T.reshape(1, -1)
        similarities = self.similarity_fct(embeddings[0], torch.cat(embeddings[1:]))
        rows = len(labels)
        no_negative = (documents == positives) | (documents == queries)
        no_negative[:, :rows] |= queries == queries.T
        if self.margin is not None:
            others = ~torch.eye(rows, dtype=torch.bool, device=similarities.device).repeat(1, len(embeddings) - 1)
            no_negative |= others & (similarities > similarities.diagonal()[:, None] + self.margin)
        no_negative[:, :rows].fill_diagonal_(False)
        targets = torch.arange(rows, device=similarities.device)
        scores = (similarities * self.scale).masked_fill(no_negative, -torch.inf)
        return torch.nn.functional.cross_entropy(scores, targets)


class CachedRankingLoss(CachedMultipleNegativesRankingLoss):
    """`RankingLoss` for batches that do not fit into memory at once (GradCache, arXiv 2101.06983).

    Each column is embedded in order of length, so that the parts of a batch hold texts of about one length and few pads;
    the loss sees the rows in their own order.
    """

    def __init__(
        self,
        model: SentenceTransformer,
        scale: float,
        mini_batch_size: int,
        margin: float | None = None,
        distil: float = 0.0,
    ) -> None:
        super().__init__(model, scale=scale, mini_batch_size=mini_batch_size)
        self.loss: RankingLoss = RankingLoss(model, scale, margin, distil)
        self._places: list[torch.Tensor | None] = []

    @property
    def padding(self) -> Padding:
        """What was embedded so far."""
        return self.loss.padding

    @override
    def forward(self, sentence_features: Iterable[Features], labels: torch.Tensor) -> torch.Tensor:
        ordered, self._places = [], []
        for column in sentence_features:
            lengths = _lengths(column)
            if lengths is None:
                ordered.append(column)
                self._places.append(None)
                continue
            order = torch.argsort(lengths, descending=True, stable=True)  # the longest first: memory fails at once
            self.padding.count(lengths[order].tolist(), self.mini_batch_size)
            ordered.append(_rows(column, order))
            self._places.append(torch.argsort(order))
        return super().forward(ordered, labels)

    @override
    def embed_minibatch(
        self,
        sentence_feature: Features,
        begin: int,
        end: int,
        with_grad: bool,
        copy_random_state: bool,
        random_state: RandContext | None = None,
    ) -> tuple[torch.Tensor, RandContext | None]:
        """Rows `begin` to `end` of a column, without the pads that all of them share on either side."""
        if _lengths(sentence_feature) is not None:
            sentence_feature = without_shared_pads(_rows(sentence_feature, slice(begin, end)))
            begin, end = 0, end - begin
        embedded: tuple[torch.Tensor, RandContext | None] = super().embed_minibatch(
            sentence_feature, begin, end, with_grad, copy_random_state, random_state
        )
        return embedded

    @override
    def calculate_loss(
        self, reps: list[list[torch.Tensor]], labels: torch.Tensor | None = None, *, with_backward: bool = False
    ) -> torch.Tensor:
        columns = [torch.cat(parts) for parts in reps]
        columns = [
            column if place is None else column[place] for column, place in zip(columns, self._places, strict=True)
        ]
        assert labels is not None
        loss = self.loss.compute_loss_from_embeddings(columns, labels)
        if with_backward:
            loss.backward()
            loss = loss.detach()
        return loss


def _lengths(column: Features) -> torch.Tensor | None:
    """Tokens of each text, or None where texts are not padded: static vectors, and flash attention's flat batches."""
    mask = column.get("attention_mask")
    return (
        mask.sum(dim=1) if isinstance(mask, torch.Tensor) and mask.ndim == 2 and "cu_seq_lens_q" not in column else None
    )


def _rows(column: Features, chosen: torch.Tensor | slice) -> Features:
    rows = len(column["attention_mask"])
    return {
        name: value[chosen] if isinstance(value, torch.Tensor) and value.ndim and len(value) == rows else value
        for name, value in column.items()
    }


def without_shared_pads(column: Features) -> Features:
    """The column without the places at its ends where every text has a pad: sentence-transformers takes those on the right
    only, and texts of decoders are padded on the left."""
    mask = column["attention_mask"]
    used = mask.any(dim=0).nonzero()
    if not len(used):
        return column
    width, first, past = mask.shape[1], int(used.min()), int(used.max()) + 1
    return {
        name: value[:, first:past]
        if isinstance(value, torch.Tensor) and value.ndim >= 2 and value.shape[1] == width
        else value
        for name, value in column.items()
    }


def loss_of(model: SentenceTransformer, settings: EmbeddingSettings) -> torch.nn.Module:
    """The loss, cached when a transformer's batch does not fit into memory at once, and over every size of the vectors.

    Raises:
        ValueError: A size of `matryoshka` is not below that of the vectors.
    """
    scale, micro, margin = 1 / settings.temperature, settings.micro_batch_size, settings.false_negative_margin
    distil = settings.distil.weight if settings.distil else 0.0
    loss: torch.nn.Module
    if isinstance(model[0], StaticEmbedding) or settings.batch_size <= micro:
        loss = RankingLoss(model, scale, margin, distil)
    else:
        loss = CachedRankingLoss(model, scale, micro, margin, distil)
    if not settings.matryoshka:
        return loss
    width = model.get_embedding_dimension()
    assert width is not None
    if max(settings.matryoshka) >= width:
        raise ValueError(
            f"embedding_model.matryoshka {list(settings.matryoshka)} must be below the model's {width} dimensions"
        )
    return MatryoshkaLoss(model, loss, sorted({*settings.matryoshka, width}))


def padding_of(loss: torch.nn.Module) -> Padding:
    """What a loss from `loss_of` has counted."""
    counting: Any = loss.loss if isinstance(loss, MatryoshkaLoss) else loss
    counted: Padding = counting.padding
    return counted
