"""The pictures of docs/ui.md: `python -m benchmarks.ui_pictures`.

The small recipe in a home of its own, `speed ui`, and a Chromium that goes where the text goes: all made, one change, its
dialog, the page of a stale asset, a release, and a release that its gates refuse. PNG of 1280 x 800 in few colours.

Belongs here: what is in the pictures. Not here: how pages are read and clicked (`tests/support/ui.py`).
"""

from __future__ import annotations

import argparse
import io
import tempfile
from pathlib import Path

from PIL import Image

from benchmarks.staleness_in_ui import SmallProject
from speed_assets.recipe import PROJECT
from tests.support.ui import PAUSE_MS, SIZE, Ui, chromium, serving

COLOURS = 64
CHANGED = "senior_data/retrieval"
NEAR = f'key:"{CHANGED}"++'
"""The selection of the graph in which a picture shows marks: the changed asset and two steps below it."""


class Pictures:
    """Pictures of one tab, in a folder."""

    def __init__(self, ui: Ui, out: Path) -> None:
        self.ui = ui
        self.out = out

    def take(self, name: str) -> None:
        """The tab as it is, in few colours: a page has hardly more."""
        picture = Image.open(io.BytesIO(self.ui.page.screenshot())).convert("RGB")
        path = self.out / f"{name}.png"
        picture.quantize(COLOURS, dither=Image.Dither.NONE).save(path, optimize=True)
        print(f"{path}: {path.stat().st_size:,} bytes")

    def page(self, path: str, name: str) -> None:
        self.ui.open(path)
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
    first = min(ui.runs(), key=lambda run: -len(run["assetSelection"]))["runId"]
    pictures.page(f"runs/{first}", "run_in_lanes")
    pictures.page("asset-groups", "graph")
    pictures.page("assets/release", "release")
    pictures.page("assets/mteb_scores", "scores")
    rows = project.data["senior_data"]["rows"]
    project.data["senior_data"]["rows"] = {**rows, "retrieval": rows["retrieval"] - 2}
    project.write()
    ui.reload_definitions()
    ui.graph(NEAR, opened=True)
    ui.page.wait_for_timeout(PAUSE_MS)
    pictures.take("graph_after_a_change")
    ui.graph()
    ui.unsynced()
    pictures.take("materialize_unsynced")
    pictures.page(f"assets/{CHANGED}", "stale_asset")
    project.data["senior_data"]["rows"] = rows
    project.data["checks"]["gain_over_untrained_min"] = 0.99  # no model gains so much
    project.write()
    project.run()
    ui.reload_definitions()
    pictures.page("assets/release?view=checks", "refused_release")


if __name__ == "__main__":
    main()
