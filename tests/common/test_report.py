import re
import subprocess
import sys
from html.parser import HTMLParser

import numpy as np
import pytest
from PIL import Image

from common.datasets import DataSource
from common.errors import UserError
from common.geometry import Frame
from common.predictions import Prediction, PredictionsWriter
from common.protocols import PROTOCOLS
from common.report import Report, build, draw
from tests import runs, small_cub


@pytest.fixture
def source(tmp_path):
    return DataSource("cub", small_cub.make(tmp_path / "CUB"), "test")


@pytest.fixture
def both(tmp_path, source):
    return tuple(
        runs.write(tmp_path / name, source, frame, misses=2)
        for name, frame in (("crop", "resize 256 crop 224"), ("squash", "resize 224"))
    )


class Page(HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.text = [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_data(self, data):
        self.text += data

    def count(self, tag, **attributes):
        return sum(t == tag and all(a.get(k.rstrip("_")) == v for k, v in attributes.items()) for t, a in self.tags)


def test_a_page_with_everything(both):
    page = Page(build(Report(both)))
    assert page.count("svg") == len(PROTOCOLS)
    assert page.count("figure") == 12
    assert page.count("figure", class_="miss") == 4
    assert page.count("figure", class_="hit") == 8
    assert all(name in page.text for name in PROTOCOLS)
    assert "whole image" in page.text
    assert "best centred box" in page.text


def test_nothing_is_loaded_from_elsewhere(both):
    text = build(Report(both))
    page = Page(text)
    sources = [a[name] for _, a in page.tags for name in ("src", "href") if name in a]
    assert sources
    assert all(source.startswith("data:image/jpeg;base64,") for source in sources)
    assert not re.search(r"url\(|@import|https?://", text)


def test_names_are_escaped(tmp_path, source):
    evil = "<script>alert(1)</script>"
    text = (source.root / "classes.txt").read_text()
    (source.root / "classes.txt").write_text(text.replace("001.Red_Bird", evil))
    run = runs.write(tmp_path / "run", source, method=f"cam{evil}")
    html = build(Report((run,)))
    assert evil not in html
    assert "&lt;script&gt;" in html


def test_a_gallery_of_few_pictures_holds_hits_and_misses(both):
    page = Page(build(Report(both[:1], gallery=4)))
    assert (page.count("figure", class_="miss"), page.count("figure", class_="hit")) == (2, 2)


def test_without_ground_truth_there_is_a_gallery_only(tmp_path):
    for number in range(3):
        path = tmp_path / "pets" / "cat" / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (80, 60), (number * 40, 90, 90)).save(path)
    source = DataSource("folder", tmp_path / "pets", "test")
    writer = PredictionsWriter(tmp_path / "run", runs.header(source))
    for sample in source.load():
        frame = Frame.squash(sample.size)
        entry = Prediction(sample.image_id, 0, sample.size, frame, (0,), (1.0,), np.array([10.0, 10, 99, 99]), 0.2)
        writer.write(entry, np.full((224, 224), 0.5, np.float32))
    writer.finish()
    page = Page(build(Report((tmp_path / "run",))))
    assert page.count("figure", class_="unknown") == 3
    assert page.count("svg") == 0
    assert "There is no ground truth" in page.text


def test_images_that_no_longer_decode_are_counted(source, both):
    path = source.root / "images/001.Red_Bird/bird_3.png"
    path.write_bytes(path.read_bytes()[:200])
    page = Page(build(Report(both[:1])))
    assert page.count("figure") == 5
    assert "1 images are no longer readable and not shown" in page.text


def test_images_that_are_gone_end_it_with_their_name(source, both):
    (source.root / "images/001.Red_Bird/bird_3.png").unlink()
    with pytest.raises(UserError, match="bird_3.png: no such image"):
        build(Report(both))


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


def test_a_page_is_not_overwritten_unless_asked_to(both, tmp_path):
    command = [sys.executable, "-m", "common.report", *map(str, both), "--out", str(tmp_path / "page.html")]
    assert subprocess.run(command, capture_output=True).returncode == 0
    again = subprocess.run(command, capture_output=True, text=True)
    assert again.returncode == 2
    assert "the page is there already" in again.stderr
    assert subprocess.run([*command, "--overwrite"], capture_output=True).returncode == 0
