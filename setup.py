"""The build of a wheel: recipes, topics, prompts and settings become data of the package, in `speed_assets/shipped`.

All else about the package is in pyproject.toml.
"""

import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

SHIPPED = ("recipes", "dagster.yaml", "workspace.yaml")


class BuildWithData(build_py):
    """The modules, and what a checkout has next to them. An editable install reads the checkout instead."""

    def run(self) -> None:
        super().run()
        if self.editable_mode:
            return
        folder = Path(self.build_lib) / "speed_assets" / "shipped"
        shutil.rmtree(folder, ignore_errors=True)
        for name in SHIPPED:
            source = Path(__file__).parent / name
            if source.is_dir():
                shutil.copytree(source, folder / name)
            else:
                folder.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, folder / name)


setup(cmdclass={"build_py": BuildWithData})
