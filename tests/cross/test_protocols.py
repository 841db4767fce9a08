"""Every protocol once more, written straight down from what its released code does, on random maps and boxes.

Nothing of `common.measuring.extraction`, `common.measuring.boxes`, `common.measuring.geometry` or `common.measuring.metrics` is used for the second opinion:
plain loops over pixels' values and corners, scikit-image for components, the shoelace formula for polygons.
"""

import math

import cv2
import numpy as np
import pytest
from skimage import measure

from common.measuring.geometry import Frame
from common.measuring.metrics import LocalizationEvaluator
from common.measuring.protocols import PROTOCOLS

SIZES = [(500, 375), (333, 500), (224, 224), (640, 427), (90, 210)]


def random_map(random: np.random.RandomState) -> np.ndarray:
    """Smooth blobs with plateaus, stretched to [0, 1]; sometimes a few grey levels only."""
    coarse = random.rand(7, 7).astype(np.float32) ** 2
    picture = cv2.resize(coarse, (224, 224), interpolation=cv2.INTER_LINEAR)
    if random.rand() < 0.3:
        picture = np.round(picture * 6) / 6
    picture = picture - picture.min()
    return (picture / picture.max()).astype(np.float32)


def random_boxes(random: np.random.RandomState, localization_map: np.ndarray, width: int, height: int) -> np.ndarray:
    """One or two boxes around what the map shows above some threshold, moved and resized a little."""
    boxes = []
    for _ in range(random.randint(1, 3)):
        rows, columns = np.nonzero(localization_map > random.uniform(0.05, 0.8))
        corners = np.array([columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]) / 224
        moved = np.clip(corners + random.uniform(-0.35, 0.35, 4), 0, 1) * [width, height, width, height]
        (x0, x1), (y0, y1) = sorted(moved[[0, 2]]), sorted(moved[[1, 3]])
        boxes.append([x0, y0, max(x1, x0 + 5), max(y1, y0 + 5)])
    return np.array(boxes).round(random.choice([0, 2]))


# ------------------------------------------------------------------------------------------------- regions, by hand


def component_box(mask):
    labels = measure.label(mask, connectivity=2)
    best, box = 0, None
    for region in measure.regionprops(labels):
        if region.area > best:
            y0, x0, y1, x1 = region.bbox
            best, box = region.area, [x0, y0, x1, y1]
    return [] if box is None else [box]


def contour_boxes(mask, every):
    contours = cv2.findContours(mask.astype(np.uint8), cv2.RETR_TREE, cv2.CHAIN_APPROX_SIMPLE)[-2]
    found = []
    for contour in contours:
        points = contour[:, 0].tolist()
        turned = [*points[1:], points[0]]
        area = abs(sum(x * v - u * y for (x, y), (u, v) in zip(points, turned, strict=True))) / 2
        xs, ys = [x for x, _ in points], [y for _, y in points]
        found.append((area, [min(xs), min(ys), max(xs) + 1, max(ys) + 1]))
    if not found or every:
        return [box for _, box in found]
    largest = max(area for area, _ in found)
    return [next(box for area, box in found if area == largest)]


def clamp(boxes):
    return [[x0, y0, min(x1, 223), min(y1, 223)] for x0, y0, x1, y1 in boxes]


def stretched(localization_map):
    return (localization_map - localization_map.min()) / (localization_map.max() - localization_map.min())


def grey_mask(grey, threshold):
    return grey > int(threshold * int(grey.max()))


def cubehelix(localization_map):
    """ADL: painted with matplotlib's cubehelix, 8 bits a colour, weighed to grey as OpenCV does."""
    from matplotlib import pyplot

    values = stretched(localization_map.astype(np.float64))
    painted = (pyplot.get_cmap("cubehelix")(values)[..., :3].astype(np.float32) * 255.0).astype(np.uint8)
    return cv2.cvtColor(painted, cv2.COLOR_RGB2GRAY)


PREDICT = {
    "bas": lambda m, t: component_box(m > np.float32(t)) or [[0, 0, 224, 224]],
    "bas-extension": lambda m, t: component_box(m > np.float32(t)) or [[0, 0, 224, 224]],
    "spol": lambda m, t: contour_boxes(m > np.float32(t), every=False),
    "grcam": lambda m, t: clamp(contour_boxes(grey_mask((stretched(m) * 255).astype(np.uint8), t), False)) or [[0] * 4],
    "adl": lambda m, t: contour_boxes(grey_mask(cubehelix(m), t), False) or [[0, 0, 1, 1]],
    "wsoleval-v1": lambda m, t: clamp(contour_boxes(grey_mask((m * 255).astype(np.uint8), t), False)) or [[0] * 4],
    "wsoleval-v2": lambda m, t: clamp(contour_boxes(grey_mask((m * 255).astype(np.uint8), t), True)) or [[0] * 4],
}
PREDICT["dgl"] = PREDICT["grcam"]


# -------------------------------------------------------------------------------------------- ground truth, by hand


def in_crop(box, width, height):
    return [
        box[0] * 256 / width - 16,
        box[1] * 256 / height - 16,
        box[2] * 256 / width - 16,
        box[3] * 256 / height - 16,
    ]


def truth_bas(box, w, h):
    x0, y0, x1, y1 = in_crop(box, w, h)
    return [max(x0, 0), max(y0, 0), min(x1, 224), min(y1, 224)]


def truth_bas_extension(box, w, h):
    x0, y0, x1, y1 = in_crop(box, w, h)
    return [int(max(x0, 0)), int(max(y0, 0)), int(min(x1, 223)), int(min(y1, 223))]


def truth_spol(box, w, h):
    x0, y0 = min(max(box[0], 0), w - 1), min(max(box[1], 0), h - 1)
    x1, y1 = min(max(box[2], 0), w - 1), min(max(box[3], 0), h - 1)
    inside = [min(max(value, 0), 224) for value in in_crop([x0, y0, x1, y1], w, h)]
    return inside if inside[0] < inside[2] and inside[1] < inside[3] else None


def truth_grcam(box, w, h):
    return [round(box[0] * (224 / w)), round(box[1] * (224 / h)), round(box[2] * (224 / w)), round(box[3] * (224 / h))]


def truth_squashed(box, w, h):
    return [int(box[0] * 224 / w), int(box[1] * 224 / h), int(box[2] * 224 / w), int(box[3] * 224 / h)]


def truth_adl(box, w, h):
    return [math.trunc(value * (256 / side) - 16) for value, side in zip(box, (w, h, w, h), strict=True)]


TRUTH = {
    "bas": truth_bas, "bas-extension": truth_bas_extension, "spol": truth_spol, "grcam": truth_grcam,
    "dgl": truth_grcam, "adl": truth_adl, "wsoleval-v1": truth_squashed, "wsoleval-v2": truth_squashed,
}  # fmt: skip


# ------------------------------------------------------------------------------------------------------ IoU, by hand


def iou(one, other, name):
    more = 0 if name == "spol" else 1
    width = min(one[2], other[2]) - max(one[0], other[0]) + more
    height = min(one[3], other[3]) - max(one[1], other[1]) + more
    if name in ("grcam", "dgl"):
        for x0, y0, x1, y1 in (one, other):
            if x0 >= x1 or y0 >= y1:
                return 0.0
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0] + more) * (box[3] - box[1] + more) for box in (one, other)]
    return shared / (sum(areas) - shared) if sum(areas) - shared > 0 else 0.0


def hits(name, localization_map, threshold, boxes, size, criterion):
    """(counted, hit) of one image."""
    truths = [TRUTH[name](box, *size) for box in boxes.tolist()]
    truths = [truth for truth in truths if truth is not None]
    predicted = PREDICT[name](localization_map, threshold)
    if name == "spol" and (not truths or not predicted):
        return False, False
    best = max(iou(box, truth, name) for box in predicted for truth in truths)
    return True, best > criterion if name in ("bas", "spol") else best >= criterion


@pytest.mark.slow
@pytest.mark.parametrize("name", PROTOCOLS)
def test_a_second_opinion(name):
    """Every accuracy equal on 30 random maps of 3 classes, some with several boxes."""
    protocol = PROTOCOLS[name]
    random = np.random.RandomState(20)
    thresholds = protocol.sweep if len(protocol.sweep) < 10 else protocol.sweep[:: len(protocol.sweep) // 12]
    evaluator = LocalizationEvaluator(protocol, thresholds)
    counts = {(criterion, t): {} for criterion in protocol.criteria for t in thresholds}
    for number in range(30):
        size = SIZES[number % len(SIZES)]
        localization_map, label = random_map(random), number % 3
        boxes = random_boxes(random, localization_map, *size)
        evaluator.accumulate(localization_map, Frame.of_kind(protocol.frame, size), boxes, label)
        for (criterion, threshold), of_class in counts.items():
            counted, hit = hits(name, localization_map, threshold, boxes, size, criterion)
            tally = of_class.setdefault(label, [0, 0])
            tally[0] += hit
            tally[1] += counted
    result = evaluator.compute()
    for row, criterion in enumerate(protocol.criteria):
        for column, threshold in enumerate(thresholds):
            of_class = counts[criterion, threshold]
            if name == "bas":
                expected = np.mean([hit / counted for hit, counted in of_class.values()])
            else:
                expected = sum(hit for hit, _ in of_class.values()) / max(1, sum(n for _, n in of_class.values()))
            if sum(counted for _, counted in of_class.values()):
                assert result.gt_known[row, column] == pytest.approx(100 * expected), (criterion, threshold)
    assert np.nanmin(result.gt_known) < np.nanmax(result.gt_known)


# --------------------------------------------------------------------- where the evaluators agree, and where they part


def accuracy(name, localization_map, boxes, size=(224, 224), threshold=0.5):
    protocol = PROTOCOLS[name]
    evaluator = LocalizationEvaluator(protocol, [threshold])
    evaluator.accumulate(localization_map, Frame.of_kind(protocol.frame, size), np.array(boxes, float), 0)
    return float(evaluator.compute().gt_known[0, 0])


def block(x0, y0, x1, y1):
    picture = np.zeros((224, 224), np.float32)
    picture[y0:y1, x0:x1] = 1.0
    return picture


@pytest.mark.parametrize("name", [name for name in PROTOCOLS if PROTOCOLS[name].frame == "resize 224"])
def test_on_a_clear_object_in_the_whole_frame_all_agree(name):
    assert accuracy(name, block(40, 50, 140, 150), [[40, 50, 140, 150]]) == 100
    assert accuracy(name, block(40, 50, 140, 150), [[150, 160, 220, 220]]) == 0


@pytest.mark.parametrize("name", [name for name in PROTOCOLS if PROTOCOLS[name].frame != "resize 224"])
def test_on_a_clear_object_in_the_crop_all_agree(name):
    assert accuracy(name, block(40, 50, 140, 150), [[56, 66, 156, 166]], size=(256, 256)) == 100
    assert accuracy(name, block(40, 50, 140, 150), [[170, 180, 230, 230]], size=(256, 256)) == 0


def test_trap_an_object_at_the_edge_is_judged_whole_or_by_what_the_crop_shows():
    whole = block(0, 0, 224, 224)
    edge = [[0, 0, 130, 256]]  # 57 % of what the crop shows, 51 % of the image
    assert accuracy("bas", whole, edge, size=(256, 256)) == 100
    assert accuracy("adl", whole, edge, size=(256, 256)) == 0  # not clipped: what lies outside counts against it
    assert accuracy("wsoleval-v1", whole, [[0, 0, 110, 224]]) == 0


def test_trap_more_than_one_half_or_at_least():
    """49 x 199 pixels of 99 x 199, each side one longer under `inclusive`: exactly one half."""
    found, truth = block(10, 10, 59, 209), [[26, 26, 125, 225]]
    assert accuracy("bas", found, truth, size=(256, 256)) == 0
    assert accuracy("bas-extension", found, truth, size=(256, 256)) == 100


def test_trap_one_pixel_more_each_side():
    """IoU 0.4949 as lengths, 0.5 as pixel counts."""
    found, truth = block(10, 10, 59, 209), [[10, 10, 109, 209]]
    assert accuracy("wsoleval-v1", found, truth) == 100
    assert accuracy("spol", found, [[26, 26, 125, 225]], size=(256, 256)) == 0


def test_trap_what_is_left_out_raises_the_score():
    evaluators = {name: LocalizationEvaluator(PROTOCOLS[name], [0.5]) for name in ("spol", "bas-extension")}
    for evaluator in evaluators.values():
        frame = Frame.centre_crop((256, 256))
        evaluator.accumulate(block(40, 50, 140, 150), frame, np.array([[56.0, 66, 156, 166]]), 0)
        evaluator.accumulate(np.zeros((224, 224), np.float32), frame, np.array([[56.0, 66, 156, 166]]), 0)
    assert float(evaluators["spol"].compute().gt_known[0, 0]) == 100  # 1 of 1
    assert float(evaluators["bas-extension"].compute().gt_known[0, 0]) == 50  # 1 of 2


def test_trap_the_largest_component_is_not_the_largest_contour():
    picture = np.zeros((224, 224), np.float32)
    picture[10:110, 10:110] = 1.0
    picture[11:109, 11:109] = 0.0  # a frame: few pixels, a large polygon
    picture[130:160, 130:160] = 1.0  # a block: many pixels, a small polygon
    ring, solid = [[26, 26, 126, 126]], [[146, 146, 176, 176]]
    assert accuracy("bas", picture, solid, size=(256, 256)) == 100
    assert accuracy("bas", picture, ring, size=(256, 256)) == 0
    assert accuracy("spol", picture, ring, size=(256, 256)) == 100
    assert accuracy("spol", picture, solid, size=(256, 256)) == 0
    assert accuracy("wsoleval-v2", picture, [[10, 10, 110, 110]]) == accuracy(
        "wsoleval-v2", picture, [[130, 130, 160, 160]]
    )


def test_trap_mean_over_classes_or_over_images():
    evaluators = {name: LocalizationEvaluator(PROTOCOLS[name], [0.5]) for name in ("bas", "bas-extension")}
    for evaluator in evaluators.values():
        frame = Frame.centre_crop((256, 256))
        for label, hit in ((0, True), (0, True), (0, True), (1, False)):
            truth = [[56.0, 66, 156, 166]] if hit else [[170.0, 180, 230, 230]]
            evaluator.accumulate(block(40, 50, 140, 150), frame, np.array(truth), label)
    assert float(evaluators["bas"].compute().gt_known[0, 0]) == 50
    assert float(evaluators["bas-extension"].compute().gt_known[0, 0]) == 75


def test_trap_any_box_counts():
    two = [[56.0, 66, 156, 166], [170.0, 180, 230, 230]]
    for name in ("bas", "spol", "adl"):
        assert accuracy(name, block(40, 50, 140, 150), two, size=(256, 256)) == 100
        assert accuracy(name, block(40, 50, 140, 150), two[::-1], size=(256, 256)) == 100
