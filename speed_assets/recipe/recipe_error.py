"""The error of a recipe."""

from speed_assets.errors import SpeedError


class RecipeError(SpeedError, ValueError):
    """A recipe that cannot be used; the message names every field, its value and what is allowed."""
