"""Pictures of the READMEs, drawn from what ./run_demo.sh left; the words below each say of which commits its runs are.

Their inputs are photographs of installed packages and the embedded data, so anybody can draw them again.
"""

import os
import shutil
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from common.pictures.overlays import encode
from common.report.sheet import sheet
from common.results.evaluation import EvaluationOptions, evaluate
from common.runs.reader import Predictions
from common.system.errors import UserError

BROWSERS = ("chromium", "chromium-browser", "google-chrome")
"""Names of browsers that can take a picture of the page, on PATH."""
WINDOW = {"width": 1250, "height": 1000}


def drawn(demo: Path, runs: Sequence[Path], held: Sequence[Path], ids: Sequence[str]) -> bytes:
    """A sheet of a demo's runs as JPEG, a row each; it shows five images, spread evenly, where no ids are given."""
    evaluations, _ = evaluate(EvaluationOptions(tuple(runs), tuple(held), resamples=0))
    return encode(sheet(evaluations, count=5, width=220 if ids else 180, ids=ids), ".jpg")


def photographed(demo: Path, runs: Sequence[Path], held: Sequence[Path], ids: Sequence[str]) -> bytes:
    """The gallery of a demo's page as JPEG, with its sliders, as a browser shows it.

    Raises:
        UserError: there is no page, or no browser.
    """
    page, browser = demo / "report.html", next(filter(None, map(shutil.which, BROWSERS)), None)
    if not page.is_file():
        raise UserError("no page", where=page, do="let run_demo.sh run to its end")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError as error:
        raise UserError("playwright is not installed", do="pip install playwright") from error
    if browser is None:
        raise UserError("no browser on PATH", expected=", ".join(BROWSERS))
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=browser, args=["--no-sandbox"])
        seen = opened.new_page(viewport=WINDOW, color_scheme="light")
        seen.goto(page.resolve().as_uri())
        seen.evaluate("document.getElementById('thresholds').open = true")
        seen.evaluate("document.getElementById('gallery').scrollIntoView()")
        seen.wait_for_selector(".look[data-box]", state="attached")
        seen.wait_for_timeout(1000)  # cards in view are drawn one after another
        picture = seen.screenshot(type="jpeg", quality=85)
        opened.close()
    return picture


@dataclass(frozen=True)
class Picture:
    """A picture of a demo's runs.

    Attributes:
        file: in the repository.
        runs: predictions directories below the demo's folder, one a row; a pattern is the one directory that matches.
        held: those of held-out images, which choose the boxes' thresholds.
        ids: of the images to show.
        make: gives the file's content, of the demo's folder, the directories and the ids.
    """

    file: str
    runs: tuple[str, ...]
    held: tuple[str, ...] = ()
    ids: tuple[str, ...] = ()
    make: Callable[[Path, Sequence[Path], Sequence[Path], Sequence[str]], bytes] = drawn


_MAPS = ("cam-*_13", "grad-cam-*_11", "dgl-*_11", "grcam-*_13")
_METHODS = (
    "cam/{}/squash",
    "bas/{}/squash",
    "spol/{}/squash",
    "dgl/{}/dgl-*_8_*-squash",
    "grcam/{}/predictions/squash",
)
PICTURES = {
    "photographs": Picture(
        "common/report/photographs.jpg", tuple(f"photographs/{name}-squash" for name in _MAPS),
        ids=("n02123045/chelsea.png", "n07920052/coffee.png", "n03773504/rocket.jpg", "n03763968/grace_hopper.jpg"),
    ),
    "methods": Picture(
        "common/report/methods.jpg", tuple(name.format("test") for name in _METHODS),
        tuple(name.format("held") for name in _METHODS),
    ),
    "page": Picture("common/report/page.jpg", ("cam/test/squash", "spol/test/squash", "dgl/test/dgl-*_8_*-squash"),
                    make=photographed),
}  # fmt: skip


@dataclass(frozen=True)
class Place:
    """A picture's place in a README, between `<!-- picture: NAME -->` and `<!-- end of picture -->`.

    Attributes:
        name: of the picture.
        shows: what it shows, for those who cannot see it.
        words: sentences below it.
    """

    name: str
    shows: str
    words: str


_FOUR = "Four photographs under CAM, Grad-CAM, DGL and GRCAM: maps, true boxes in green, predicted boxes in orange"
_FIVE = "Five drawn birds under CAM, BAS, SPOL, DGL and GRCAM: maps, true boxes in green, predicted boxes in orange"
_CHOSEN = "Green: true box. Orange: predicted box, at the threshold that held-out images chose."
_PAGE = "The page's gallery: drawn birds under several runs, with a threshold slider for each"
PLACES = {
    "README.md": (
        Place("photographs", _FOUR,
              "MobileNetV1 with its own ImageNet head, without any training: CAM, Grad-CAM and DGL at an inner layer, "
              "GRCAM. Green: true box. Orange: predicted box, at the threshold that is best on these and one more "
              "photograph."),
        Place("page", _PAGE, "The gallery of the page that the demo writes."),
    ),
    "common/README.md": (Place("page", _PAGE, "The gallery of the page that the demo writes."),),
    "bas/README.md": (Place("methods", _FIVE, f"Second row: BAS with MobileNetV1, as the demo trains it. {_CHOSEN}"),),
    "spol/README.md": (Place("methods", _FIVE, f"Third row: SPOL with MobileNetV1, as the demo trains it. {_CHOSEN}"),),
    "dgl_tf/README.md": (
        Place("photographs", _FOUR, "Third row: DGL at an inner layer of MobileNetV1 with its own ImageNet head."),
    ),
    "grcam/README.md": (
        Place("photographs", _FOUR, "Last row: GRCAM's refined map of MobileNetV1 with its own ImageNet head."),
    ),
}  # fmt: skip


def found(demo: Path, patterns: Sequence[str]) -> list[Path]:
    """The one directory for each pattern.

    Raises:
        UserError: none for one of them, or several.
    """
    directories = []
    for pattern in patterns:
        matching = sorted(demo.glob(pattern))
        if len(matching) != 1:
            raise UserError(f"{len(matching) or 'no'} predictions {pattern}", where=demo, expected="one")
        directories += matching
    return directories


def made(demo: Path, name: str) -> tuple[bytes, str]:
    """A picture's content, and the sentence that says what made it and of which commits its runs are.

    Raises:
        UserError: the demo lacks a run.
    """
    picture = PICTURES[name]
    runs, held = found(demo, picture.runs), found(demo, picture.held)
    processes = [process for run in runs for process in Predictions.open(run).manifest.processes]
    commits = sorted({_short(str(process["git_commit"])) for process in processes})
    said = f"Drawn by `python -m benchmarks.readme --demo {os.path.relpath(demo)}`; its runs are of commit "
    return picture.make(demo, runs, held, picture.ids), f"{said}{', '.join(commits)}."


def _short(commit: str) -> str:
    return commit[:7] + "-dirty" * commit.endswith("-dirty")


def shown(readme: str, place: Place, said: str) -> str:
    """A picture as Markdown, with its words."""
    link = os.path.relpath(PICTURES[place.name].file, Path(readme).parent)
    words = textwrap.fill(f"*{place.words} {said}*", width=128, break_long_words=False, break_on_hyphens=False)
    return f"![{place.shows}]({link})\n\n{words}"
