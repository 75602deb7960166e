"""Dagster's own door: a component that puts a recipe into any Dagster project.

    dg scaffold defs speed_assets.SpeedLoop loop_a

Several components are several recipes: each has its own prefix, and all share the home that `SPEED_HOME` names.

Belongs here: the component and its scaffolding. Not here: what is defined (`build.py`), the code location of a recipe without a
project (`definitions.py`).
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Literal

import dagster as dg
from dagster.components import scaffold_component
from pydantic import Field
from typing_extensions import override

from speed_assets.orchestration.code_location import component_definitions
from speed_assets.orchestration.new_project import component_files
from speed_assets.recipe import RecipeError

PREFIX = re.compile(r"[A-Za-z][A-Za-z0-9_-]*")
"""What asset keys, jobs and groups may begin with."""


class SpeedLoopParams(dg.Model):
    """Options of `dg scaffold defs speed_assets.SpeedLoop`."""

    template: Literal["laptop", "gpu"] = Field("laptop", description="Shipped recipe to copy.")


class SpeedLoopScaffolder(dg.Scaffolder[SpeedLoopParams]):
    """Writes `defs.yaml`, a recipe, its topics and the schema for editors into the component's folder."""

    @classmethod
    @override
    def get_scaffold_params(cls) -> type[SpeedLoopParams]:
        return SpeedLoopParams

    @override
    def scaffold(self, request: dg.ScaffoldRequest[SpeedLoopParams]) -> None:
        template = request.params.template if request.params else "laptop"
        scaffold_component(request, {"recipe": "recipe.yaml"})
        for name, text in component_files(request.target_path, template).items():
            (request.target_path / name).write_text(text, encoding="utf-8")


@dg.scaffold_with(SpeedLoopScaffolder)
class SpeedLoop(dg.Component, dg.Model, dg.Resolvable):
    """The assets, checks, job, sensor and schedule of one recipe, in any Dagster project.

    Its job `PREFIX__everything` runs independent steps at the same time, as `speed run` does, after the probes of `speed
    doctor`. Assets that are materialized in another way use the executor of the project.

    Attributes:
        recipe: a YAML file, relative to the component's folder, or the name of a shipped recipe.
        topics: a topic file in place of the recipe's, relative to the component's folder.
        key_prefix: begins the asset keys and the names of job, sensor, schedule and groups; by default the name of the
            component's folder.
        everywhere: the executor of the job is that of the whole code location, so that each button of the UI runs as the job
            does. Dagster allows one executor in a code location, and with several components one of them may say so.
    """

    recipe: str = Field(
        "recipe.yaml", description="A YAML file, relative to this folder, or the name of a shipped recipe."
    )
    topics: str | None = Field(None, description="A topic file in place of the recipe's, relative to this folder.")
    key_prefix: str | None = Field(
        None, description="Begins asset keys and the names of job, sensor, schedule and groups; else the folder's name."
    )
    everywhere: bool = Field(
        False, description="The job's executor is that of the whole code location. One component may say so."
    )

    @override
    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """The definitions of the recipe, under the prefix. Raises RecipeError."""
        prefix = self.key_prefix or context.path.name
        if not PREFIX.fullmatch(prefix):
            raise RecipeError(
                f"{context.path}: asset keys cannot begin with {prefix!r}: set key_prefix to letters, digits, _ or -"
            )
        topics = str(context.path / self.topics) if self.topics else None
        return component_definitions(self._file(context.path), topics, prefix, everywhere=self.everywhere)

    def _file(self, folder: Path) -> str:
        """The recipe's file, or the name of a shipped recipe."""
        own = folder / self.recipe
        return str(own) if own.suffix in (".yaml", ".yml") or own.exists() else self.recipe
