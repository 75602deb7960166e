"""Great Expectations' Data Docs of the tables that exist: the suites of the checks, as pages to read.

Great Expectations puts values into its pages unescaped, and models wrote these values: every text of a result is
escaped before a page is made of it.

Belongs here: pages on demand. Not here: outcomes of checks, which nothing here changes (`expectations.py`).
"""

from __future__ import annotations

import html
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from checks.check import EXAMPLES
from checks.expectations import suite_of
from checks.suites import SUITES, suite_for
from resources.redaction import masked
from resources.store.artifacts import Artifacts, artifact_label
from resources.store.store import StoreError

_BEACON = re.compile(r"""https://great-expectations-web-assets[^"')]*""")
"""A picture that every page would load from its makers, with the time and an id: nobody learns that a page was viewed."""
_RESULTS = {"result_format": "SUMMARY", "partial_unexpected_count": EXAMPLES}


def write_data_docs(artifacts: Artifacts, out: Path, say: Callable[[str], None] = lambda _line: None) -> Path:
    """Write pages for every table artifact of the recipe.

    Args:
        artifacts: Of the recipe.
        out: A new or empty folder.
        say: Called with one line for each table.

    Returns:
        The path of the first page.

    Raises:
        StoreError: The folder holds something, or no table is made yet.
    """
    if out.exists() and not (out.is_dir() and not any(out.iterdir())):
        raise StoreError(f"{out} is no empty folder: name a new one, so that no file of yours is touched")
    made = [
        (artifact_label(stage.name, partition).replace("/", "-"), artifact)
        for stage, partition in artifacts.in_build_order()
        if stage.name in SUITES and (artifact := artifacts.fetch(stage.name, partition)) is not None
    ]
    if not made:
        raise StoreError("no table is made yet under this recipe: `speed run` makes them")
    os.environ["GX_ANALYTICS_ENABLED"] = "false"
    import great_expectations as gx
    from great_expectations.data_context.types.base import ProgressBarsConfig

    context = gx.get_context(mode="file", project_root_dir=str(out))
    context.variables.analytics_enabled = False
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    context.variables.save()
    tables = context.data_sources.add_pandas("tables")
    drawn = artifacts.recipe.languages
    for name, artifact in made:
        languages = drawn.shares if drawn and "given" not in artifact.metadata else ()
        expectations = dict(enumerate(suite_for(artifact.asset, languages)))
        suite = context.suites.add(suite_of(name, expectations, artifact.partition))
        whole = tables.add_dataframe_asset(name).add_batch_definition_whole_dataframe("whole")
        validation = context.validation_definitions.add(gx.ValidationDefinition(name=name, data=whole, suite=suite))
        found = validation.run(
            batch_parameters={"dataframe": artifact.table().to_pandas()}, result_format=dict(_RESULTS)
        )
        failed = sum(not result.success for result in found.results)
        say(f"{name}: {len(found.results) - failed} of {len(found.results)} expectations met")
    store = context.validation_results_store
    for key in store.list_keys():
        found = store.get(key)
        for result in found.results:
            result.result = escaped(result.result)
            result.exception_info = escaped(result.exception_info)
        store.set(key, found)
    context.build_data_docs()
    for file in out.glob("gx/uncommitted/data_docs/**/*.html"):
        file.write_text(masked(_BEACON.sub("data:,", file.read_text(encoding="utf-8"))), encoding="utf-8")
    (page,) = out.glob("gx/uncommitted/data_docs/*/index.html")
    return page


def escaped(value: Any) -> Any:
    """A plain value whose texts hold no markup, keys of mappings too.

    >>> escaped({"rows": ["<b>", 1, None]})
    {'rows': ['&lt;b&gt;', 1, None]}
    """
    if isinstance(value, str):
        return html.escape(value)
    if isinstance(value, dict):
        return {escaped(key): escaped(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [escaped(item) for item in value]
    return value
