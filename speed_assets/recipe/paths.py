"""Where the project and its recipes are."""

from pathlib import Path

PROJECT = Path(__file__).resolve().parents[2]
RECIPES = PROJECT / "recipes"
DEFAULT_RECIPE = "offline"
