"""The reranker that a recipe names: what its folder shows before anything is loaded from it.

Belongs here: refusing a folder that is none. Not here: what its settings must say (`domain/reranker_settings.py`), a hub
(`orchestration/doctor/model_probes.py`), loading it (`speed_assets/workers/rerank.py`).
"""

from __future__ import annotations

from pathlib import Path

from resources.inputs.base_models import is_on_hub
from resources.inputs.given_models import model_files
from resources.inputs.packaged_models import is_packaged
from resources.inputs.safe_models import check_reranker
from speed_assets.recipe import RecipeError, RerankerScores


def check_reranker_here(section: RerankerScores) -> None:
    """A reranker in a folder of this machine can be used; of one on a hub nothing is known here.

    Raises:
        RecipeError: It is no folder, or holds no cross-encoder with one output in safetensors.
    """
    if is_packaged(section.model):
        raise RecipeError(
            f"reranker_scores.model {section.model}: packages hold generators; name a folder or a hub's model"
        )
    if not is_on_hub(section.model):
        check_reranker_folder(section, Path(section.model))


def check_reranker_folder(section: RerankerScores, folder: Path) -> None:
    """The folder of a reranker, or its snapshot in a hub's cache, can be used. Raises RecipeError."""
    if not folder.is_dir():
        raise RecipeError(f"reranker_scores.model: {folder} is no folder: name the model's own folder")
    name = f"reranker_scores.model {folder.name if folder == Path(section.model) else section.model}"
    check_reranker(folder, model_files(folder, name, linked=True), name, section.max_length)
