"""Predictions as labelled images: boxes, scores, and which images are left out."""

import json
from types import SimpleNamespace

import numpy as np
import pytest

from common.datasets import DataSource
from common.export import Export
from common.exporting.detections import (
    Review,
    Rule,
    boxes_of,
    class_probability,
    large_regions,
    rule_on_validation,
    thresholds_of,
)
from common.measuring.extraction import LARGEST_COMPONENT, Extractor
from common.measuring.geometry import Frame
from common.measuring.protocols import PROTOCOLS
from common.runs.reader import Predictions
from common.runs.record import Prediction
from common.system.errors import UserError
from tests import runs
from tests.common.exporting.scene import NAMES, truth


def entry_of(localization_map: np.ndarray, extractor: Extractor, threshold: float) -> Prediction:
    (found,) = extractor.boxes(localization_map, [threshold])
    return Prediction("1", 0, (224, 224), Frame.squash((224, 224)), None, None, found[0], threshold)


def boxes_by(localization_map: np.ndarray, entry: Prediction, rule: Rule) -> list:
    predictions = SimpleNamespace(has_maps=True, map=lambda _: localization_map)
    return boxes_of(predictions, entry, rule)[0].tolist()


def test_every_large_region_gets_a_box():
    picture = np.full((60, 100), 0.1, np.float32)
    picture[10:30, 10:30] = 0.9  # 400 pixels
    picture[35:55, 60:76] = 0.8  # 320
    picture[5:9, 80:90] = 1.0  # 40
    rule = Extractor("value", "largest-component", "exclusive")
    assert large_regions(picture, rule, 0.5, 0.5).tolist() == [[10, 10, 30, 30], [60, 35, 76, 55]]
    assert large_regions(picture, rule, 0.5, 0.05).tolist() == [[10, 10, 30, 30], [60, 35, 76, 55], [80, 5, 90, 9]]
    assert large_regions(picture, rule, 0.95, 0.5).tolist() == [[80, 5, 90, 9]]
    assert large_regions(np.zeros((4, 4), np.float32), rule, 0.5, 0.5).shape == (0, 4)


def test_a_region_in_the_last_column_has_a_width():
    """A protocol's box ends on the last pixel, x 223: its width was 0."""
    picture = np.zeros((224, 224), np.float32)
    picture[10:30, 223] = 1.0
    rule = PROTOCOLS["wsoleval-v1"].extractor
    entry = entry_of(picture, rule, 0.5)
    assert entry.boxes.tolist() == [[223, 10, 223, 30]]
    for asked in (Rule(rule, 0.5, ""), Rule(None, 0.5, ""), Rule(rule, 0.5, "", "all"), Rule(None, 0.5, "", "all")):
        assert boxes_by(picture, entry, asked) == [[223, 10, 224, 30]]


def test_all_regions_are_cut_as_the_stored_box_was():
    """A map from 0.3 to 0.9, which DGL's and GRCAM's rule stretches: above 0.2 as it stands lies everything."""
    picture = np.full((224, 224), 0.3, np.float32)
    picture[10:60, 10:60] = picture[100:140, 100:140] = 0.9
    entry = entry_of(picture, PROTOCOLS["grcam"].extractor, 0.2)
    assert boxes_by(picture, entry, Rule(None, 0.2, "", "all", 0.5)) == [[10, 10, 60, 60], [100, 100, 140, 140]]


def test_the_largest_contour_is_taken_where_a_protocol_lets_any_count(tmp_path, birds):
    """OpenCV names the lowest contour first."""
    source = DataSource("folder", birds, "held", boxes=tmp_path / "boxes.csv", held_per_class=1)
    held = runs.write(tmp_path / "held", source)
    chosen = thresholds_of(Export((held,), validation=(held,), workers=1), "wsoleval-v2")
    extractor, found = rule_on_validation(Predictions.open(held), chosen)
    assert (extractor.region, found.protocol) == ("largest-contour", "wsoleval-v2")
    picture = np.zeros((224, 224), np.float32)
    picture[10:100, 10:100] = picture[200:210, 200:210] = 1.0
    entry = entry_of(picture, LARGEST_COMPONENT, 0.5)
    assert boxes_by(picture, entry, Rule(extractor, 0.5, "")) == [[10, 10, 100, 100]]


def test_a_class_outside_the_five_best_has_no_probability(directories):
    from common.runs.reader import Predictions

    entry = Predictions.open(directories["train"]).entries[0]
    assert class_probability(entry) == 0.5
    assert class_probability(type(entry)(**{**vars(entry), "top5": (7, 8), "top5_scores": (0.6, 0.4)})) == 0.0
    assert class_probability(type(entry)(**{**vars(entry), "top5": None, "top5_scores": None})) == 1.0


@pytest.mark.parametrize(("content", "complaint"), [
    ({"drop": ["no such image"]}, "1 of its images are in no predictions, no such image among them"),
    ({"drop": [f"{NAMES[0]}/three.png"], "keep": [f"{NAMES[0]}/three.png"]}, "is to be kept and to be dropped"),
    ({"delete": []}, "not a review"),
    ({"keep": []}, "the review keeps no image"),
    ([1], "not a review"),
])  # fmt: skip
def test_a_review_that_makes_no_sense_is_refused(tmp_path, content, complaint):
    path = tmp_path / "review.json"
    path.write_text(json.dumps(content), encoding="utf-8")
    with pytest.raises(UserError, match=complaint):
        Review.read(path, {"test": truth("test").keys()})


def test_a_review_of_kept_images_keeps_no_other():
    review = Review(keep={("test", "a")}, drop={("test", "b")})
    assert [review.says_no("test", name) for name in "abc"] == [None, "dropped in the review", "not kept in the review"]
    assert review.says_no("train", "a") == "not kept in the review"


def test_a_review_says_which_split_an_image_is_of_where_two_have_its_id(tmp_path):
    path, known = tmp_path / "review.json", {"train": ["a/1.png", "a/2.png"], "test": ["a/1.png"]}
    path.write_text('{"drop": ["a/1.png"]}')
    with pytest.raises(UserError, match=r"a/1.png is an image of 2 splits. Write test/a/1.png or train/a/1.png"):
        Review.read(path, known)
    path.write_text('{"drop": ["test/a/1.png", "a/2.png"]}')
    review = Review.read(path, known)
    said = [review.says_no(split, name) for split, names in known.items() for name in names]
    assert said == [None, "dropped in the review", "dropped in the review"]
