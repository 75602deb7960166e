"""What the user gives in the place of an artifact: models, or triplets.

Belongs here: where they are and what they may be used for. Not here: what such files may hold (`resources/inputs/given_models.py`),
which stages are left out then (`domain/graph/shape.py`).
"""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from speed_assets.domain.task_types import TaskTypeName
from speed_assets.recipe.section import Encoding, Positive, Rate, Section
from speed_assets.recipe.sections.examples_section import ExampleColumns


class GivenModel(Section):
    """A model of the user's own in the place of one that the recipe would train. It is copied into the home; only safetensors, and
    files of settings and tokenizers, are read, and no code. All numbers are ours."""

    model: Annotated[str, Field(min_length=1, max_length=4000)]
    """A folder, `package:NAME`, or a hub name; a relative path starts at the recipe's folder."""
    revision: str | None = None
    """Hub revision; a branch is pinned to its commit at its first use."""
    gigabytes_max: Rate = 200.0
    """Gigabytes (10^9 bytes) of the files that are copied at most (ours: above any model of 70 billion weights in half precision)."""


class GivenTriplets(Section):
    """A table of the user's own triplets in the place of those that the recipe would write. Repeats and rows that hold text of an
    evaluation set are quarantined as in `final_triplets`; its rules, scores and verdicts are for text that a model wrote, and do
    not apply. All numbers are ours."""

    file: Annotated[str, Field(min_length=1, max_length=4000)]
    """.jsonl, .csv, .tsv or .parquet; a relative path starts at the recipe's folder."""
    columns: ExampleColumns = ExampleColumns()
    """Of `negative`, a cell of .jsonl or .parquet may be a list: the first is the row's negative, the others are further ones of its
    training."""
    encoding: Encoding = "utf-8"
    """Of files without a byte order mark."""
    task_type: TaskTypeName = "retrieval"
    """Of rows that name none. A `retrieval` row without a negative is a `grounded` one, and the other way round."""
    task: str = Field(default="Given a question, retrieve passages that answer it.", min_length=1, max_length=500)
    """Instruction of rows that name none."""
    hosted_teachers: bool = False
    """Whether rows may be sent to a teacher that is not on this machine (doubtful ones of `mined_negatives`)."""
    released: bool = False
    """Whether a release holds the rows and their quarantine; their licence is the user's. Without them it has the model alone."""
    rows_max: Positive = 5_000_000
    """Rows of the file at most."""
    file_megabytes_max: Rate = 20_000.0
    """Megabytes (10^6 bytes) of the file at most."""


class Given(Section):
    """What the user gives in the place of an artifact. Nothing is made that would only serve to make it."""

    junior_model: GivenModel | None = None
    """A causal language model, or an adapter on `generator.base`, in the place of the junior."""
    senior_model: GivenModel | None = None
    """The same in the place of the senior."""
    revisor_model: GivenModel | None = None
    """The same in the place of the revisor."""
    final_triplets: GivenTriplets | None = None
    """Triplets to train on."""
    embedding_model: GivenModel | None = None
    """A model of sentence-transformers that is scored, and released where the gates pass."""

    def names(self) -> tuple[str, ...]:
        """Stages that something is given for, in the order of the loop."""
        return tuple(name for name in type(self).model_fields if getattr(self, name) is not None)
