"""Where the project's code, its recipes and its settings are, in a checkout and in an installed wheel."""

from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[1]
PROJECT = PACKAGE.parent
"""The folder from which this project's packages are imported: the checkout, or the environment's site-packages."""
INSTALLED = (PACKAGE / "shipped").is_dir()
"""Whether this is an installed wheel, whose recipes and settings are data of the package (setup.py)."""
SHIPPED = PACKAGE / "shipped" if INSTALLED else PROJECT
"""The folder with `recipes/`, `dagster.yaml` and `workspace.yaml`."""
RECIPES = SHIPPED / "recipes"
DEFAULT_RECIPE = "offline"
