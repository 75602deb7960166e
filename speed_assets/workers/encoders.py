"""Models as mteb runs them, and the prompts that they put before texts.

Belongs here: encoders. Not here: tasks, scores (`evaluate.py`).
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np
from mteb.abstasks import AbsTask, AbsTaskRetrieval
from mteb.abstasks.task_metadata import TaskMetadata
from mteb.models import SentenceTransformerEncoderWrapper
from mteb.models.abs_encoder import AbsEncoder
from mteb.models.instruct_wrapper import InstructSentenceTransformerModel
from mteb.models.model_implementations.bm25 import BM25Search
from mteb.models.model_meta import ModelMeta
from mteb.types import PromptType
from sentence_transformers import SentenceTransformer
from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer
from typing_extensions import override

from speed_assets.domain.instructions import prompt_of, published_instruction
from speed_assets.workers.embedding_base import INSTRUCTION
from speed_assets.workers.jobs import ScoredModel


def encoders_of(model: ScoredModel) -> dict[str, Any]:
    """What mteb runs for a model, on ranking tasks and on those that ask for vectors."""
    stated = {"languages": list(model.languages)} if model.languages else {}
    meta = ModelMeta.create_empty({"name": f"speed/{model.name}", "revision": model.digest, **stated})
    if model.path is None:
        ranking: Any = BM25Search(tokenizer=words)
        encoders = {"ranking": ranking, "vectors": LexicalVectors()}
    else:
        encoder = encoder_of(model.path)
        encoders = {"ranking": encoder, "vectors": encoder}
    for found in encoders.values():
        found.mteb_model_meta = meta
    return encoders


def encoder_of(path: str) -> AbsEncoder:
    """The model in a folder as mteb runs it, loaded once: with the instruction that it was trained with, or with its own prompts."""
    loaded = SentenceTransformer(path, trust_remote_code=False)
    prefix = loaded.prompts.get(INSTRUCTION)
    if prefix is None:
        return SentenceTransformerEncoderWrapper(loaded)
    return Instructed(loaded, prefix)


class Instructed(InstructSentenceTransformerModel):  # type: ignore[misc]
    """A model that reads the task's instruction: before queries, and before every text of a task without sides, as it was trained.

    A task's instruction is the one that mteb carries; where it carries none, the one that E5-mistral publishes
    (`domain/instructions.py`); where nobody has published one, mteb's own for the type of task.
    """

    def __init__(self, model: SentenceTransformer, prefix: str) -> None:
        # Not the parent's: it would load the model once more.
        self.model = model
        self.model_name = "speed"
        self.instruction_template = lambda instruction, _side: prefix.replace("{task}", instruction)
        self.apply_instruction_to_passages = False
        self.prompts_dict = None

    @override
    def get_instruction(self, task_metadata: TaskMetadata, prompt_type: PromptType | None) -> str:
        published = None if task_metadata.prompt else published_instruction(task_metadata.name)
        return published or str(super().get_instruction(task_metadata, prompt_type))


NO_PROMPT = "none"


def asked_with(encoder: Any, task: AbsTask) -> str:
    """The prompt before the texts of a task when this encoder embeds them: the column `instruction` of scores.

    Of a task with sides it is that of queries, and that of documents after ` | documents: ` where they have one.
    """
    model = getattr(encoder, "model", None)
    if model is None:
        return NO_PROMPT
    ranking = isinstance(task, AbsTaskRetrieval)
    if isinstance(encoder, Instructed):
        return str(encoder.get_task_instruction(task.metadata, PromptType.query if ranking else None))
    default = model.prompts.get(model.default_prompt_name or "", "")
    kind, name = task.metadata.type, task.metadata.name
    if not ranking:
        return prompt_of(model.prompts, kind, None, name) or default or NO_PROMPT
    query, document = (prompt_of(model.prompts, kind, side, name) for side in ("query", "document"))
    if not document:
        return query or NO_PROMPT
    return f"{query or NO_PROMPT} | documents: {document}"


def words(text: str) -> list[str]:
    """Words as the lexical baseline sees them: no stemmer and no list of stop words, so no language is assumed.

    >>> words("The cost, of Tea-pots")
    ['the', 'cost', 'of', 'tea', 'pots']
    """
    return re.findall(r"\w+", text.lower())


class LexicalVectors(AbsEncoder):
    """The lexical twin of BM25 for tasks that ask for vectors: hashed words under tf-idf, unit length.

    Inverse document frequencies are those of the first texts that a task shows (training texts, or the first
    sides of pairs). Words not among them count as rarest.
    """

    def __init__(self) -> None:
        self._counts = HashingVectorizer(n_features=2**12, analyzer=words, norm=None)
        self._weights: dict[tuple[str, str], TfidfTransformer] = {}

    @override
    def encode(
        self,
        inputs: Any,
        *,
        task_metadata: TaskMetadata,
        hf_split: str,
        hf_subset: str,
        prompt_type: Any = None,
        **kwargs: Any,
    ) -> np.ndarray:
        """(texts, 4096) float32."""
        counts = self._counts.transform(text for batch in inputs for text in batch["text"])
        key = (task_metadata.name, hf_subset)
        if key not in self._weights:
            self._weights[key] = TfidfTransformer().fit(counts)
        vectors: np.ndarray = self._weights[key].transform(counts).toarray().astype(np.float32)
        return vectors
