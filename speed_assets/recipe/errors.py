"""The error of a recipe."""


class RecipeError(ValueError):
    """A recipe that cannot be used; the message names every field, its value and what is allowed."""
