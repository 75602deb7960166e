"""Great Expectations' Data Docs of the tables that exist: the suites of the checks, as pages to read.

Great Expectations puts values into its pages unescaped, and models wrote these values: every text of a result is
escaped before a page is made of it.

Belongs here: tests on demand, and which pages there are. Not here: the HTML of a page (`data_docs_pages.py`), outcomes of
checks, which nothing here changes (`expectations.py`).
"""

from __future__ import annotations

import html
import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from checks.check import EXAMPLES
from checks.data_docs_pages import index_page, results_page, suite_page
from checks.expectations import suite_of
from checks.suites import SUITES, suite_for
from resources.redaction import masked
from resources.store.artifacts import Artifacts, artifact_label
from resources.store.store import Artifact, StoreError

_RESULTS = {"result_format": "SUMMARY", "partial_unexpected_count": EXAMPLES}


@dataclass(frozen=True)
class Validation:
    """A suite that was tested on a table: one line of the index, and two pages."""

    asset: str
    partition: str | None
    rows: int
    met: int
    """Expectations that the table meets."""
    expectations: int
    at: datetime
    """When they were tested, UTC."""
    suite: Any
    """Great Expectations' suite."""
    result: Any
    """Great Expectations' result; its texts are escaped."""

    @property
    def passed(self) -> bool:
        """Whether the table meets every expectation."""
        return self.met == self.expectations

    @property
    def label(self) -> str:
        """`asset` or `asset/partition`."""
        return artifact_label(self.asset, self.partition)

    @property
    def file(self) -> str:
        """The name of its pages."""
        return f"{_suite_name(self.asset, self.partition)}.html"


def write_data_docs(artifacts: Artifacts, out: Path, say: Callable[[str], None] = lambda _line: None) -> Path:
    """Write pages for every table artifact of the recipe. They load nothing: no script, no style, no picture.

    Args:
        artifacts: Of the recipe.
        out: A new or empty folder.
        say: Called with one line for each table.

    Returns:
        The path of the first page, `index.html` in the folder.

    Raises:
        StoreError: The folder holds something, a page cannot be written, or no table is made yet.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise StoreError(f"{out} is no empty folder: name a new one, so that no file of yours is touched")
    made = [
        (artifact, partition)
        for stage, partition in artifacts.in_build_order()
        if stage.name in SUITES and (artifact := artifacts.fetch(stage.name, partition)) is not None
    ]
    if not made:
        raise StoreError("no table is made yet under this recipe: `speed run` makes them")
    tested = []
    for found in _validations(artifacts, made):
        say(f"{found.suite.name}: {found.met} of {found.expectations} expectations met")
        _write(out / "validations" / found.file, results_page(found.label, found.file, found.result))
        _write(out / "expectations" / found.file, suite_page(found.label, found.file, found.suite))
        tested.append(found)
    return _write(out / "index.html", index_page(artifacts.recipe.name, tested))


def _write(file: Path, page: str) -> Path:
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(masked(page), encoding="utf-8")
    except OSError as error:
        raise StoreError(f"{file} cannot be written: {error.strerror or error}") from None
    return file


def _validations(artifacts: Artifacts, made: list[tuple[Artifact, str | None]]) -> Iterator[Validation]:
    """Each table, tested. Suites and results stay in memory: in a folder, every new suite writes the whole configuration again."""
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    tables = context.data_sources.add_pandas("tables")
    drawn = artifacts.recipe.languages
    for artifact, partition in made:
        name = _suite_name(artifact.asset, partition)
        languages = drawn.shares if drawn and "given" not in artifact.metadata else ()
        expectations = dict(enumerate(suite_for(artifact.asset, languages)))
        suite = context.suites.add(suite_of(name, expectations, artifact.partition))
        whole = tables.add_dataframe_asset(name).add_batch_definition_whole_dataframe("whole")
        table = artifact.table()
        run = gx.ValidationDefinition(name=name, data=whole, suite=suite).run(
            batch_parameters={"dataframe": table.to_pandas()}, result_format=dict(_RESULTS)
        )
        store = context.validation_results_store
        (key,) = (key for key in store.list_keys() if key.expectation_suite_identifier.name == name)
        yield Validation(
            asset=artifact.asset,
            partition=partition,
            rows=table.height,
            met=sum(bool(item.success) for item in run.results),
            expectations=len(run.results),
            at=key.run_id.run_time.astimezone(UTC),
            suite=suite,
            result=with_escaped_texts(store.get(key), name),
        )


def _suite_name(asset: str, partition: str | None) -> str:
    return artifact_label(asset, partition).replace("/", "-")


def with_escaped_texts(result: Any, name: str) -> Any:
    """A stored result of Great Expectations without markup in its texts, and with the name of its table.

    Messages of exceptions keep theirs: Great Expectations escapes parameters of its texts, and would escape them twice.
    """
    for item in result.results:
        item.result = escaped(item.result)
        item.exception_info = escaped(item.exception_info, but=("exception_message",))
    result.meta["batch_spec"] = {**(result.meta.get("batch_spec") or {}), "data_asset_name": name}
    return result


def escaped(value: Any, but: tuple[str, ...] = ()) -> Any:
    """A plain value whose texts hold no markup, keys of mappings too.

    >>> escaped({"rows": ["<b>", 1, None]})
    {'rows': ['&lt;b&gt;', 1, None]}

    Args:
        value: The value.
        but: Keys whose values stay as they are.
    """
    if isinstance(value, str):
        return html.escape(value)
    if isinstance(value, dict):
        return {escaped(key): item if key in but else escaped(item, but) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [escaped(item, but) for item in value]
    return value
