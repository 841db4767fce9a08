"""Names from files on the page, in the tables and in paths: shown as they are, run by nothing, and led nowhere else."""

import csv
import json
import os
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

from common.datasets import DataSource
from common.export import Export, export
from common.measuring.geometry import Frame
from common.report import Report, build
from common.report.figures import Curve, chart
from common.report.sheet import sheet
from common.results.evaluation import evaluate
from common.runs.photographs import localize_photographs
from common.runs.reader import Predictions
from common.runs.record import Prediction, map_path
from common.runs.writer import PredictionsWriter
from common.system.errors import UserError
from tests import runs, small_cub

EVIL = (
    "<script>window.ran=1</script>", "</script><script>window.ran=1</script>", "<!--<script>", "]]>", '" onmouseover="window.ran=1',
    "' onfocus='window.ran=1' autofocus='", "<img src=x onerror=window.ran=1>", "&lt;script&gt;", "{{7*7}}", "{% include '/etc/passwd' %}",
    "\\u003cscript>", "</title><svg onload=window.ran=1>", "</style>", "`${window.ran=1}`",
)  # fmt: skip
"""What a class, a method or an image may be called."""
SEPARATORS = ("\u2028", "\u2029", "\u202e", "\x1b[2J")
"""What text may hold in JSON alone: no list with it is read."""
FORMULAS = ("=cmd|'/c calc'!A1", "+1+1", "-1+1", "@SUM(A1)")


class Page(HTMLParser):
    """Elements with their attributes, the text outside of scripts, and the scripts."""

    def __init__(self, html: str):
        super().__init__()
        self.tags, self.words, self.scripts, self._inside = [], "", [], None
        self.feed(html)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, attributes))
        self._inside = tag

    def handle_endtag(self, tag):
        self._inside = None

    def handle_data(self, data):
        if self._inside == "script":
            self.scripts.append(data)
        else:
            self.words += data


def renamed(root: Path, number: int, evil: str) -> Path:
    """The small data set with a class, and the image ids in it, called `evil` where a file system lets it."""
    cub = small_cub.make(root)
    name = evil.replace("/", "|").replace("\\", "|").replace(" ", "")
    old = small_cub.CLASSES[number]
    (cub / "images" / old).rename(cub / "images" / name)
    (cub / "segmentations" / old).rename(cub / "segmentations" / name)
    for file in ("classes.txt", "images.txt"):
        (cub / file).write_text((cub / file).read_text().replace(old, name), encoding="utf-8")
    return cub


def page_of(tmp_path, evil: str) -> tuple[str, str]:
    cub = renamed(tmp_path / "CUB", 0, evil)
    source = DataSource("cub", cub, "test")
    run = runs.write(tmp_path / "run", source, method=evil, architecture=evil, classifier={"name": evil, "crops": 10},
                     checkpoint={"name": evil, "sha256": evil}, options={evil: evil})  # fmt: skip
    writer_skips(run, evil)
    return build(Report((run,), workers=1)), build(Report((run,), gallery=0, workers=1))


def writer_skips(run: Path, evil: str) -> None:
    """The last image was skipped, for a reason of that name."""
    path = run / "predictions.jsonl"
    *rows, last = path.read_text().splitlines()
    skipped = {"image_id": json.loads(last)["image_id"], "skipped": evil}
    path.write_text("\n".join([*rows, json.dumps(skipped), ""]))


HARMLESS = "Red_Bird"


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return [Page(html) for html in page_of(tmp_path_factory.mktemp("plain"), HARMLESS)]


BY_LENGTH = {"textlength", "lengthadjust"}
"""Attributes that squeeze a long label of a chart into its line: the only ones a name's length decides."""


def attribute_names(page: Page) -> list[list[str]]:
    return [[name for name, _ in attributes if name not in BY_LENGTH] for _, attributes in page.tags]


@pytest.mark.parametrize("evil", EVIL)
def test_no_name_adds_an_element_or_attribute_to_the_page(tmp_path, plain, evil):
    for html, expected in zip(page_of(tmp_path, evil), plain, strict=True):
        page = Page(html)
        assert [tag for tag, _ in page.tags] == [tag for tag, _ in expected.tags]
        assert attribute_names(page) == attribute_names(expected)
        assert evil in page.words
        assert page.scripts[1] == expected.scripts[1]
        data = json.loads(page.scripts[0])
        assert data["runs"][0]["name"] == f"{evil} {evil}"
        assert not re.search(r"[<>&\u2028\u2029]", page.scripts[0])


@pytest.mark.parametrize("evil", SEPARATORS)
def test_characters_that_only_json_holds_on_the_page(tmp_path, evil):
    source = DataSource("cub", small_cub.make(tmp_path / "CUB"), "test")
    pages = []
    for name in (evil, HARMLESS):
        run = runs.write(tmp_path / f"run{len(pages)}", source, method=name, options={name: name})
        pages.append(Page(build(Report((run,), workers=1))))
    assert [tag for tag, _ in pages[0].tags] == [tag for tag, _ in pages[1].tags]
    assert pages[0].scripts[0].isascii()
    assert json.loads(pages[0].scripts[0])["runs"][0]["name"].startswith(evil)


@pytest.mark.parametrize("evil", EVIL)
def test_names_in_a_plot(evil):
    curve = Curve(evil, 0, np.array([0.0, 1.0]), np.array([10.0, 20.0]))
    page = Page(chart(evil, [curve], [(evil, 5.0)]))
    assert {tag for tag, _ in page.tags} == {"svg", "text", "polyline", "title", "circle", "line"}
    assert not any(name.startswith("on") for _, attributes in page.tags for name, _ in attributes)
    assert evil in page.words


@pytest.mark.parametrize("evil", [*EVIL[:3], *SEPARATORS, "鳥"])
def test_names_on_a_sheet(tmp_path, evil):
    source = DataSource("cub", small_cub.make(tmp_path / "CUB"), "test")
    run = runs.write(tmp_path / "run", source, method=evil)
    options = Report((run,), workers=1)
    assert sheet(evaluate(options, need_boxes=False)[0], 2, 60).size > 0


# -------------------------------------------------------------------------------------------------------------- export


@pytest.mark.parametrize("formula", FORMULAS)
def test_ids_are_no_formulas_in_a_spreadsheet_and_the_same_paths(tmp_path, formula):
    cub = renamed(tmp_path / "CUB", 0, formula)
    source = DataSource("cub", cub, "test")
    run = runs.write(tmp_path / "run", source)
    options = Export((run,), out=tmp_path / "out", workers=1)
    (evaluation,), _ = evaluate(options)
    export(evaluation, options.out, options)
    for name in ("audit.csv", "boxes.csv"):
        with (options.out / name).open(newline="") as file:
            found = [row["image_id"] for row in csv.DictReader(file)]
        assert not any(image_id.startswith(("=", "+", "-", "@", "\t", "\r")) for image_id in found)
        assert {os.path.normpath(image_id) for image_id in found} == {sample.image_id for sample in source.load()}
        assert all((cub / "images" / image_id).is_file() for image_id in found)
    names = [image["file_name"] for image in json.loads((options.out / "coco.json").read_text())["images"]]
    assert set(names) == {sample.image_id for sample in source.load()}


def test_a_class_that_no_csv_breaks_on(tmp_path):
    cub = renamed(tmp_path / "CUB", 0, "a\"b;c'd")
    run = runs.write(tmp_path / "run", DataSource("cub", cub, "test"))
    options = Export((run,), out=tmp_path / "out", workers=1)
    (evaluation,), _ = evaluate(options)
    export(evaluation, options.out, options)
    with (options.out / "boxes.csv").open(newline="") as file:
        rows = list(csv.reader(file))
    assert {len(cells) for cells in rows} == {14}


# --------------------------------------------------------------------------------------------------------- where it goes


@pytest.mark.parametrize("image_id", ["../../evil", "/etc/evil", "a/../../../evil", "a\\..\\evil", "C:/evil", "a\0b", "a\nb", "x" * 300,
                                      "x/" * 3000])  # fmt: skip
def test_no_map_is_written_or_read_elsewhere(tmp_path, image_id):
    writer = PredictionsWriter(tmp_path / "run", {"method": "cam"})
    before = sorted(tmp_path.rglob("*"))
    entry = Prediction(image_id, 0, (80, 60), Frame.squash((80, 60)), None, None, None, 0.2)
    with pytest.raises(UserError, match="path .* not usable|path .* \\.\\.\\."):
        writer.write(entry, np.zeros((224, 224), np.float32))
    with pytest.raises(UserError):
        map_path(tmp_path / "run", image_id)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("image_id", ["..", ".", "", "..."])
def test_dots_before_an_ending_are_a_name(tmp_path, image_id):
    assert map_path(tmp_path / "run", image_id).parent.resolve() == tmp_path.resolve() / "run" / "maps"


@pytest.mark.parametrize("image_id", ["../../evil.png", "/etc/evil.png", "a/../../evil.png"])
def test_predictions_that_lead_elsewhere_are_refused_when_opened(tmp_path, image_id):
    source = DataSource("cub", small_cub.make(tmp_path / "CUB"), "test")
    run = runs.write(tmp_path / "run", source)
    lines = run / "predictions.jsonl"
    first, *rest = lines.read_text().splitlines()
    lines.write_text("\n".join([json.dumps({**json.loads(first), "image_id": image_id}), *rest, ""]))
    with pytest.raises(UserError, match=r"predictions\.jsonl:1: path"):
        Predictions.open(run)


def test_an_overlay_lies_in_its_folder_whatever_the_photograph_is_called(tmp_path):
    from common.pictures.images import read_rgb
    from common.runs.photographs import Found

    source = DataSource("cub", small_cub.make(tmp_path / "CUB"), "test")
    path = tmp_path / "..evil.png"
    shutil.copy(source.load().samples[0].path, path)
    nothing = np.zeros((224, 224), np.float32)
    localize_photographs([path, tmp_path / "CUB" / ".." / "CUB" / "images" / "002.Blue_Bird" / "bird_0.png"], tmp_path / "out", False, read_rgb,
                         lambda image: Found(Frame.squash(image.shape[1::-1]), nothing, None, 0.2, {}))  # fmt: skip
    assert {found.name for found in (tmp_path / "out").iterdir()} == {"..evil.png.jpg", "bird_0.png.jpg", "boxes.jsonl"}
