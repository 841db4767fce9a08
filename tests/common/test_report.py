import base64
import json
import re
import subprocess
import sys
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from common.datasets import DataSource
from common.evaluate import Evaluate
from common.measuring.geometry import Frame
from common.measuring.protocols import PROTOCOLS
from common.pictures.overlays import draw
from common.report import Report, build, figures, page, published
from common.report.sheet import GAP, WORDS, sheet
from common.results.evaluation import evaluate
from common.results.tables import signed
from common.runs.record import LINES, Prediction
from common.runs.writer import PredictionsWriter
from common.system.errors import UserError
from tests import commands, runs


@pytest.fixture
def both(tmp_path, source):
    return tuple(
        runs.write(tmp_path / name, source, frame, misses=2)
        for name, frame in (("crop", "resize 256 crop 224"), ("squash", "resize 224"))
    )


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.text, self.scripts, self._script = [], "", {}, None
        self.feed(text)
        self.data = json.loads(self.scripts["data"])

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        self._script = dict(attributes).get("id", "code") if tag == "script" else None

    def handle_endtag(self, tag):
        self._script = None

    def handle_data(self, data):
        if self._script is None:
            self.text += data
        else:
            self.scripts[self._script] = self.scripts.get(self._script, "") + data

    def count(self, tag, **attributes):
        return sum(t == tag and all(a.get(k.rstrip("_")) == v for k, v in attributes.items()) for t, a in self.tags)

    def verdicts(self, run):
        """For each pictured image, whether the run hits it at the threshold the page opens with."""
        start = self.data["runs"][run]["start"]
        return [base64.b64decode(image["looks"][run]["verdicts"])[start] >= 128 for image in self.data["images"]]


@pytest.mark.slow
def test_a_page_with_everything(both):
    page = Page(build(Report(both)))
    # Against the threshold, three IoUs of wsoleval-v2 apart; against the IoU, one for each frame; whiskers.
    assert page.count("svg", class_="chart") == len(PROTOCOLS) + 2 + 2
    assert page.count("svg", class_="whiskers") == len(PROTOCOLS)
    assert [run["protocol"] for run in page.data["runs"]] == ["bas", "wsoleval-v1"]
    assert [sum(page.verdicts(run)) for run in (0, 1)] == [4, 4]
    assert [run["hits"][run["start"]] for run in page.data["runs"]] == [4, 4]
    assert len(page.data["images"]) == 6
    assert all(name in page.text for name in PROTOCOLS)
    assert "whole image" in page.text
    assert "best centred box" in page.text


@pytest.mark.slow
def test_two_runs_are_compared_on_the_page(tmp_path, source):
    made = [runs.write(tmp_path / name / "squash", source, misses=misses) for name, misses in (("A", 0), ("B", 3))]
    page = Page(build(Report(tuple(made), protocols=("wsoleval-v1",), resamples=50)))
    assert "Which is better" in page.text
    assert "(+50.0)" in page.text
    assert "(-50.0)" in page.text


@pytest.mark.slow
def test_the_page_says_for_how_many_steps_a_network_was_trained(tmp_path, source):
    for name, steps in (("trained", [1240]), ("two", [240, 30]), ("own", [0]), ("foreign", [None])):
        data = {**source.described(source.load()), "training_steps": steps}
        runs.write(tmp_path / name, source, data=data)
    page = build(
        Report(tuple(tmp_path / name for name in ("trained", "two", "own", "foreign")), note="BAS <is> left out.")
    )
    assert "BAS &lt;is&gt; left out." in page
    for name, told in (("trained", "1,240"), ("two", "240, 30"), ("own", "none"), ("foreign", "unknown")):
        assert re.search(rf"<td>unknown</td><td>{told}</td><td>{tmp_path / name}</td>\s*</tr>", page), name


@pytest.mark.slow
def test_boxes_on_the_page_are_the_protocols(both, source):
    page = Page(build(Report(both[:1])))
    image, (look,) = page.data["images"][5], page.data["images"][5]["looks"]
    start = page.data["runs"][0]["start"]
    box = np.frombuffer(base64.b64decode(look["boxes"]), np.uint8).reshape(-1, 4)[start]
    sample = next(sample for sample in source.load() if sample.image_id == image["id"])
    frame = Frame.centre_crop(sample.size)
    np.testing.assert_allclose(box, frame.clip(frame.to_frame(sample.boxes))[0], atol=1)
    assert image["truth"] == sample.boxes.tolist()
    assert look["frame"] == [256, 256, 16, 16, 224, 224]


def test_a_released_threshold_stands_before_one_chosen_on_these_images(tmp_path, source):
    run = runs.write(tmp_path / "run", source, "resize 256 crop 224")
    html = build(Report((run,), protocols=("bas",), released_for="cub", resamples=0, workers=1))
    (fields,) = Page(html).data["runs"]
    assert (fields["source"], fields["thresholds"][fields["start"]]) == ("released", 0.15)
    assert "cam mobilenet_v1, BAS 2022 @0.15 released" in html


@pytest.mark.slow
def test_nothing_is_loaded_from_elsewhere(both):
    text = build(Report(both))
    page = Page(text)
    sources = [a[name] for _, a in page.tags for name in ("src", "href") if name in a]
    assert all(source.startswith("#") for source in sources)
    assert all(image["picture"].startswith("data:image/jpeg;base64,") for image in page.data["images"])
    assert not re.search(r"url\(|@import|https?://|fetch\(|XMLHttpRequest", text)


@pytest.mark.slow
def test_names_are_escaped(tmp_path, source):
    evil = "</script><script>alert(1)</script>"
    text = (source.root / "classes.txt").read_text()
    (source.root / "classes.txt").write_text(text.replace("001.Red_Bird", evil))
    run = runs.write(tmp_path / "run", source, method=f"cam{evil}")
    html = build(Report((run,)))
    assert evil not in html
    assert "&lt;script&gt;" in html
    assert Page(html).data["classes"][0] == evil


@pytest.mark.slow
def test_a_gallery_of_few_pictures_holds_hits_and_misses(both):
    page = Page(build(Report(both[:1], gallery=4)))
    assert page.verdicts(0).count(True) == page.verdicts(0).count(False) == 2
    assert page.data["runs"][0]["total"] == 6


@pytest.mark.slow
def test_accuracy_by_class(both):
    rows = re.findall(r"<tr><th scope=.row.>(\d\d\d\.\w+)</th><td>(\d+)</td><td>([\d.]+)</td>", build(Report(both[:1])))
    assert [row[1] for row in rows] == ["2", "2", "2"]
    assert sum(float(row[2]) for row in rows) == pytest.approx(200.0)  # two of six miss


@pytest.mark.slow
def test_published_figures_stand_on_the_whole_data_set_only(both, monkeypatch):
    assert "README of BAS" not in build(Report(both[:1], released_for="cub"))
    dataset = DataSource("cub", both[0].parent / "CUB", "test").load()
    monkeypatch.setitem(published.WHOLE, "cub", (len(dataset.class_names), len(dataset)))
    page = build(Report(both[:1], released_for="cub"))
    assert "README of BAS" in page
    assert "92.35" in page


@pytest.mark.parametrize(("images", "whole"), [(5794, True), (5600, True), (5, False), (5000, False), (5994, False)])
def test_figures_of_all_images_do_not_stand_beside_those_of_a_few(images, whole):
    """CUB's 200 classes have 5,794 test images and 5,994 training images."""
    assert bool(published.published("cub", 200, images)) == whole
    assert published.published("cub", 10, images) == []


def test_classes_without_an_image_have_no_line(tmp_path):
    (source,) = folders(tmp_path / "data", one=["a", "b"]).values()
    for path in (tmp_path / "data/one/a").iterdir():
        path.unlink()
    boxes = tmp_path / "data/boxes.csv"
    boxes.write_text("".join(line for line in boxes.read_text().splitlines(keepends=True) if "/a/" not in line))
    run = runs.write(tmp_path / "run", source)
    html = build(Report((run,), protocols=("wsoleval-v1",), resamples=0, workers=1))
    assert re.findall(r"<th scope=.row.>(\w+)</th><td>(\d+)</td>", html.split('data-name="GT-known by class"')[1]) == [
        ("b", "2")
    ]


def test_a_class_says_how_many_of_its_images_a_run_counts(tmp_path):
    """Of the two images of class a one was skipped, and the other is missed."""
    (source,) = folders(tmp_path / "data", one=["a", "b"]).values()
    run = runs.write(tmp_path / "run", source, misses=2)
    lines = (run / LINES).read_text().splitlines()
    lines[0] = json.dumps({"image_id": json.loads(lines[0])["image_id"], "skipped": "gone"})
    (run / LINES).write_text("".join(f"{line}\n" for line in lines))
    html = build(Report((run,), protocols=("wsoleval-v1",), resamples=0, workers=1))
    table = html.split('data-name="GT-known by class"')[1]
    assert re.findall(r"<th scope=.row.>(\w+)</th><td>(\d+)</td><td>([^<]+)</td>", table)[:2] == [
        ("a", "2", "0.0 of 1"), ("b", "2", "100.0")
    ]  # fmt: skip


def test_the_words_of_a_protocol_stand_alone():
    """Sections of the page are read on their own, in any order."""
    used = {word for protocol in PROTOCOLS.values() for word in (
        protocol.frame, protocol.extractor.cut, protocol.extractor.region, protocol.extractor.end,
        protocol.ground_truth, protocol.iou, protocol.missing)}  # fmt: skip
    assert used <= set(page.WORDS)
    assert not [words for words in page.WORDS.values() if words.startswith("the same")]


def test_result_lines_of_the_page_name_their_protocol_in_words(tmp_path, source):
    run = runs.write(tmp_path / "run", source)
    html = build(Report((run,), protocols=("grcam",), resamples=0, workers=1))
    assert '<th scope="row">GRCAM 2022 (grcam)</th>' in html
    assert '<th scope="row">grcam</th>' not in html


def test_a_difference_of_nothing_has_no_sign():
    assert [signed(points) for points in (-0.0, 0.04, -0.04, 0.06, -20.0, float("nan"), None)] == [
        "0.0", "0.0", "0.0", "+0.1", "-20.0", "-", "-"
    ]  # fmt: skip


def folders(root, **splits) -> dict[str, DataSource]:
    """A split for each keyword: its classes, with two images each, all of another colour."""
    lines = ["path,x0,y0,x1,y1"]
    for number, (split, classes) in enumerate(splits.items()):
        for place, name in enumerate(classes):
            for image in range(2):
                path = root / split / name / f"{image}.png"
                path.parent.mkdir(parents=True, exist_ok=True)
                Image.new("RGB", (80, 60), (40 * number, 40 * place, 90 * image)).save(path)
                lines.append(f"{split}/{name}/{image}.png,10,10,60,50")
    (root / "boxes.csv").write_text("\n".join(lines) + "\n")
    return {split: DataSource("folder", root, split, boxes=root / "boxes.csv") for split in splits}


def test_a_page_of_two_splits_keeps_their_images_and_classes_apart(tmp_path):
    """Both have a/0.png; class 0 of the second is aardvark. Two of its four images are missed."""
    sources = folders(tmp_path / "data", one=["a", "b"], two=["aardvark", "a"])
    made = tuple(
        runs.write(tmp_path / split, source, misses=misses)
        for (split, source), misses in zip(sources.items(), (0, 2), strict=True)
    )
    html = build(Report(made, protocols=("wsoleval-v1",), resamples=20, workers=1))
    page = Page(html)
    classes = page.data["classes"]
    assert [(image.get("review", image["id"]), classes[image["label"]]) for image in page.data["images"]] == [
        ("one/a/0.png", "a"), ("one/a/1.png", "a"), ("b/0.png", "b"), ("b/1.png", "b"), ("two/a/0.png", "a"),
        ("two/a/1.png", "a"), ("aardvark/0.png", "aardvark"), ("aardvark/1.png", "aardvark"),
    ]  # fmt: skip
    assert [[look is not None for look in image["looks"]] for image in page.data["images"]] == [
        *[[True, False]] * 4, *[[False, True]] * 4
    ]  # fmt: skip
    assert len({image["picture"] for image in page.data["images"]}) == 8
    assert classes[page.data["images"][4]["looks"][1]["predicted"]] == "a"
    tables = html.split('data-name="GT-known by class, 4 of folder ')[1:]
    assert [table[:3] for table in tables] == ["one", "two"]
    rows = [re.findall(r"<th scope=.row.>(\w+)</th><td>(\d+)</td><td>([\d.]+)</td>", table) for table in tables]
    assert rows[0][:2] == [("a", "2", "100.0"), ("b", "2", "100.0")]
    assert rows[1][:2] == [("a", "2", "0.0"), ("aardvark", "2", "100.0")]


def test_a_hit_on_the_page_is_at_half_where_a_protocol_has_several_criteria(tmp_path):
    """Maps of 40 x 30 within the true 50 x 40, in pixels of the image: an IoU of 0.6, and of 0.4 for the second half."""
    (source,) = folders(tmp_path / "data", one=["a", "b"]).values()
    boxes = {sample.image_id: np.array([[10.0, 10, 50, 40] if sample.label else [10.0, 10, 40, 37]])
             for sample in source.load()}  # fmt: skip
    run = runs.write(tmp_path / "run", source, boxes=boxes)
    html = build(Report((run,), protocols=("wsoleval-v2",), resamples=0, workers=1))
    page = Page(html)
    assert page.verdicts(0) == [False, False, True, True]
    assert re.search(r"cam mobilenet_v1, MaxBoxAccV2 2022 IoU 0.5 @0\.\d+ oracle", html)
    assert re.findall(r"<th scope=.row.>[ab]</th><td>2</td><td>([\d.]+)</td>", html) == ["0.0", "100.0"]


def test_the_page_knows_how_large_a_second_region_is(tmp_path):
    """One region of 100 x 50 pixels, and in the second image another of 50 x 50."""
    (source,) = folders(tmp_path / "data", one=["a"]).values()
    run = runs.write(tmp_path / "run", source)
    for number, path in enumerate(sorted((run / "maps").rglob("*.npy"))):
        picture = np.zeros((224, 224), np.float32)
        picture[0:50, 0:100] = 1.0
        picture[100:150, 100:150] = number
        np.save(path, picture)
    page = Page(build(Report((run,), protocols=("wsoleval-v1",), resamples=0, workers=1)))
    assert [image["looks"][0]["rival"] for image in page.data["images"]] == [0.0, 0.5]


@pytest.mark.slow
def test_the_page_stays_small(both):
    page = Page(build(Report(both)))
    looks = [len(json.dumps(look)) for image in page.data["images"] for look in image["looks"]]
    assert max(looks) < 2000


def test_without_ground_truth_there_is_a_gallery_only(tmp_path):
    for number in range(3):
        path = tmp_path / "pets" / "cat" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (80, 60), (number * 40, 90, 90)).save(path)
    source = DataSource("folder", tmp_path / "pets", "all")
    writer = PredictionsWriter(tmp_path / "run", runs.header(source))
    for sample in source.load():
        frame = Frame.squash(sample.size)
        entry = Prediction(sample.image_id, 0, sample.size, frame, (0,), (1.0,), np.array([10.0, 10, 99, 99]), 0.2)
        writer.write(entry, np.full((224, 224), 0.5, np.float32))
    writer.finish()
    page = Page(build(Report((tmp_path / "run",))))
    assert [base64.b64decode(image["looks"][0]["verdicts"]) for image in page.data["images"]] == [b"\x7e"] * 3
    assert page.count("svg") == 0
    assert "There is no ground truth" in page.text


@pytest.mark.slow
def test_images_that_no_longer_decode_are_counted(source, both):
    path = source.root / "images/001.Red_Bird/bird_3.png"
    path.write_bytes(path.read_bytes()[:200])
    page = Page(build(Report(both[:1])))
    assert len(page.data["images"]) == 5
    assert "1 image is no longer readable and not shown" in page.text


def test_images_that_a_figure_leaves_out_stand_on_the_page(tmp_path, source):
    """Pixel metrics of five images, without a word of the sixth; and a mean over seeds of five."""
    made = []
    for seed in (0, 1):
        checkpoint = {"name": "x", "sha256": str(seed), "training": {"seed": seed, "recipe": "a"}}
        made.append(runs.write(tmp_path / f"{seed}/squash", source, checkpoint=checkpoint))
    lines = (made[1] / "predictions.jsonl").read_text().splitlines()
    first = json.loads(lines[0])["image_id"]
    lines[0] = json.dumps({"image_id": first, "skipped": "gone"})
    (made[1] / "predictions.jsonl").write_text("".join(f"{line}\n" for line in lines))
    last = source.load().samples[-1]
    last.masks[0].unlink()
    text = Page(build(Report(tuple(made), protocols=("wsoleval-v1",), resamples=0, workers=1))).text
    assert f"{made[0]}, pixel metrics: 1 left out:" in text
    assert "cam mobilenet_v1, 2 seeds, wsoleval-v1 (oracle): 1 left out: not in every run" in text
    assert f"{made[1]}, wsoleval-v1 (oracle): 1 left out: skipped: gone" in text


@pytest.mark.slow
def test_images_that_are_gone_are_counted(source, both):
    (source.root / "images/001.Red_Bird/bird_3.png").unlink()
    page = Page(build(Report(both)))
    assert len(page.data["images"]) == 5
    assert "1 image is no longer readable and not shown" in page.text


def test_boxes_are_drawn_where_they_are():
    image = np.zeros((100, 200, 3), np.uint8)
    frame = Frame.centre_crop((200, 100))
    box = frame.to_frame([50, 25, 150, 75])[0]
    plain, heat = draw(image, frame, np.ones((224, 224), np.float32), box, np.array([[20.0, 10, 180, 90]]), 300)
    assert plain.shape == heat.shape == (150, 300, 3)
    assert tuple(plain[60, 75]) == (255, 176, 0)  # the predicted box's left side, at 1.5 times its place
    assert tuple(plain[60, 30]) == (90, 230, 90)  # the true one's
    outside, inside = heat[2, 2].astype(int), heat[75, 150].astype(int)
    assert outside.sum() < inside.sum()


@pytest.mark.slow
def test_a_page_is_not_overwritten_unless_asked_to(both, tmp_path):
    arguments = [*both, "--out", tmp_path / "page.html"]
    first = subprocess.run([sys.executable, "-m", "common.report", *arguments], capture_output=True)
    assert first.returncode == 0
    again = commands.run("common.report.page", *arguments)
    assert again.returncode == 2
    assert "the page is there already" in again.stderr
    assert commands.run("common.report.page", *arguments, "--overwrite").returncode == 0


@pytest.mark.slow
def test_a_sheet_has_a_row_for_each_run(both):
    evaluations, _ = evaluate(Evaluate(both))
    picture = sheet(evaluations, 3, 120)
    assert picture.shape == (2 * (WORDS + 90 + GAP), 3 * (120 + GAP), 3)
    boxes = (np.abs(picture.astype(int) - (255, 176, 0)).sum(axis=2) < 60).sum(axis=1)
    assert boxes[: WORDS + 90].any()
    assert boxes[WORDS + 90 + GAP :].any()


def test_a_sheet_of_two_splits_is_refused(tmp_path):
    made = [runs.write(tmp_path / name, each) for name, each in folders(tmp_path / "d", one="a", two="a").items()]
    with pytest.raises(UserError, match="the runs are of other images"):
        sheet(evaluate(Evaluate(tuple(made), workers=1))[0], 2, 120)


def test_a_sheet_draws_true_boxes_of_the_declared_size(tmp_path):
    """The box 20 20 120 100 of an image declared as 160 x 120 is 10 10 60 50 of the stored 80 x 60."""
    (source,) = folders(tmp_path / "data", one=["a"]).values()
    lines = [f"a/{number}.png,20,20,120,100,160,120" for number in range(2)]
    (tmp_path / "data/boxes.csv").write_text("\n".join(["path,x0,y0,x1,y1,width,height", *lines]) + "\n")
    hit = {f"a/{number}.png": np.array([[60.0, 50, 80, 60]]) for number in range(2)}
    run = runs.write(tmp_path / "run", replace(source, boxes=tmp_path / "data/boxes.csv"), boxes=hit)
    picture = sheet(evaluate(Evaluate((run,), resamples=0, workers=1))[0], 1, 160)[WORDS : WORDS + 120, :160]
    green = np.abs(picture.astype(int) - (90, 230, 90)).sum(axis=2) < 90
    rows, columns = (np.flatnonzero(green.any(axis=axis)) for axis in (1, 0))
    assert np.abs(np.subtract([columns[0], rows[0], columns[-1], rows[-1]], [20, 20, 120, 100])).max() <= 3


def test_runs_of_a_page_are_told_apart_by_colour_or_dashes(tmp_path, source):
    """Runs with maps, which stand in all plots, take the first colours; a ninth run takes the first one dashed."""
    made = [runs.write(tmp_path / "boxes", source, method="boxes", maps=False),
            runs.write(tmp_path / "maps", source, method="maps")]  # fmt: skip
    evaluations, _ = evaluate(Evaluate(tuple(made), resamples=0, workers=1))
    assert page._colours(evaluations) == {"maps mobilenet_v1": 0, "boxes mobilenet_v1": 1}
    x = np.array([0.0, 0.5, 1.0])
    drawn = figures.chart("bas", [figures.Curve("first", 0, x, 90 * x), figures.Curve("ninth", 8, x, 50 * x)])
    assert re.findall(r'polyline class="(curve [^"]*)"[^>]*data-label="(\w+)"', drawn) == [
        ("curve run0", "first"), ("curve run0 again", "ninth")
    ]  # fmt: skip
    assert drawn.count('class="dot run0 again"') == 2


def test_boxes_of_no_map_have_no_threshold_behind_them(tmp_path, source):
    """Pseudo boxes are stored with the threshold 0, since no map was cut for them."""
    run = runs.write(tmp_path / "run", source, maps=False)
    lines = (run / LINES).read_text()
    assert '"threshold": 0.2' in lines
    (run / LINES).write_text(lines.replace('"threshold": 0.2', '"threshold": 0.0'))
    html = build(Report((run,), protocols=("grcam",), resamples=0, workers=1))
    assert "GRCAM 2022 as stored" in html
    assert "@0" not in html
