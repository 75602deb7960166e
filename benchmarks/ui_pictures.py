"""The pictures of docs/ui.md: `python -m benchmarks.ui_pictures`.

The small recipe in a home of its own, `speed ui`, and a Chromium that goes where the text goes: all made, one change, its
dialog, the lanes of the run, the page of a stale asset, a release, a plot, and a release that its gates refuse. PNG of 1440 x 900 in few colours.

Belongs here: what is in the pictures. Not here: how pages are read and clicked (`tests/support/ui.py`).
"""

from __future__ import annotations

import argparse
import io
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import ViewportSize

from benchmarks.staleness_in_ui import SmallProject
from speed_assets.recipe import PROJECT
from tests.support.ui import SIZE, Ui, chromium, serving

COLOURS = 256
CHANGED = "senior_data/retrieval"
TALL = ViewportSize(width=1440, height=1700)
"""For the lanes of all steps."""
NEAR = f'key:"{CHANGED}"+1'
"""The selection of the graph in which a picture shows marks: the changed asset and one step below it."""


class Pictures:
    """Pictures of one tab, in a folder."""

    def __init__(self, ui: Ui, out: Path) -> None:
        self.ui = ui
        self.out = out

    def take(self, name: str) -> None:
        """The tab as it is, in few colours: a page has hardly more."""
        picture = Image.open(io.BytesIO(self.ui.picture())).convert("RGB")
        path = self.out / f"{name}.png"
        picture.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
        print(f"{path}: {path.stat().st_size:,} bytes")

    def page(self, path: str, shows: str, name: str) -> None:
        self.ui.open(path, shows)
        self.take(name)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=PROJECT / "docs" / "pictures")
    parser.add_argument("--folder", type=Path, help="a folder in which an earlier call has made everything")
    args = parser.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as temporary:
        project = SmallProject(args.folder or Path(temporary))
        project.run()
        with chromium() as browser, serving(project.file, project.home, project.file.parent / "ui.log") as address:
            ui = Ui(browser.new_page(viewport=SIZE), address)  # type: ignore[arg-type]
            _pictures(project, ui, Pictures(ui, args.out))


def _pictures(project: SmallProject, ui: Ui, pictures: Pictures) -> None:
    first = max(ui.runs(), key=lambda run: len(run["assetSelection"]))["runId"]
    ui.page.set_viewport_size(TALL)
    ui.open(f"runs/{first}", "Success")
    ui.page.locator("button:left-of(:text('Re-execute all'))").first.click()  # the lanes without the log
    pictures.take("run_in_lanes")
    ui.page.set_viewport_size(SIZE)
    pictures.page("assets/release", "scores", "release")
    ui.open("assets/mteb_scores", "[Show Markdown]")
    ui.page.get_by_text("[Show Markdown]", exact=True).first.click()
    pictures.take("plot")
    rows = project.data["senior_data"]["rows"]
    project.data["senior_data"]["rows"] = {**rows, "retrieval": rows["retrieval"] - 2}
    project.write()
    ui.reload_by_question()
    ui.graph(NEAR, opened=True)
    pictures.take("graph_after_a_change")
    ui.graph()
    ui.open_unsynced()
    pictures.take("materialize_unsynced")
    pictures.page(f"assets/{CHANGED}", "Description", "stale_asset")
    project.data["senior_data"]["rows"] = rows
    project.data["checks"]["gain_over_untrained_min"] = 0.99  # no model gains so much
    project.write()
    project.run()
    ui.reload_by_question()
    pictures.page("assets/release?view=checks&checkDetail=mteb_scores", "Latest execution", "refused_release")


if __name__ == "__main__":
    main()
