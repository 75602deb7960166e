"""The prompt set of a recipe, with the user's own wording where the recipe names a file of it.

Hidden state of the process: the last 16 prompt files are cached by path, size and modification time.

Belongs here: reading such a file. Not here: what a prompt set holds (`speed_assets/domain/prompts`).
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from speed_assets.domain.prompts import PromptSet
from speed_assets.recipe import Prompts, Recipe, RecipeError, read_yaml


def prompt_set(section: Prompts, multilingual: bool = False) -> PromptSet:
    """The prompt set that a recipe names.

    Args:
        section: The recipe's section `prompts`.
        multilingual: Whether the recipe draws languages, which the prompts then say.

    Returns:
        The shipped set, with templates replaced by those of `prompts.file`.

    Raises:
        RecipeError: The file does not exist, or replaces something that the set does not have.
    """
    if section.file is None:
        return PromptSet.load(section.set, multilingual)
    path = Path(section.file)
    if not path.is_file():
        raise RecipeError(f"prompts.file: there is no file {path}; name one, or remove the field")
    stat = path.stat()
    return _reworded(section.set, multilingual, path, stat.st_mtime_ns, stat.st_size)


def prompts_of(recipe: Recipe) -> PromptSet:
    """The prompts of a recipe. Raises RecipeError."""
    return prompt_set(recipe.prompts, recipe.languages is not None)


@lru_cache(maxsize=16)
def _reworded(name: str, multilingual: bool, path: Path, _mtime: int, _size: int) -> PromptSet:
    try:
        return PromptSet.load(name, multilingual).reworded(read_yaml(path))
    except (ValueError, TypeError, AttributeError) as error:
        raise RecipeError(f"prompts.file: {path}: {str(error).removeprefix(f'{path}: ')}") from None
