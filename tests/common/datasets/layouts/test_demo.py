import numpy as np
import pytest

from common.datasets import DataSource
from common.datasets.layouts import demo
from common.datasets.layouts.demo_art import PLUMAGES, SPECIES, paint
from common.pictures.images import read_rgb, read_stored
from common.system.errors import UserError

RECIPE = demo.Recipe(train_per_class=2, test_per_class=1, seed=5)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo") / "data"
    demo.render(folder, RECIPE)
    return folder


@pytest.mark.slow
def test_it_reads_as_cub(root):
    train, test = (DataSource("demo", root, split).load() for split in ("train", "test"))
    assert (len(train), len(test)) == (16, 8)
    assert train.class_names == tuple(species.name for species in SPECIES)
    assert {sample.label for sample in test} == set(range(8))


@pytest.mark.slow
def test_boxes_fit_their_masks(root):
    for sample in DataSource("demo", root, "test").load():
        mask = read_stored(sample.masks[0]) > 128
        rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
        assert sample.boxes.tolist() == [[columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]]
        assert mask.shape == read_rgb(sample.path).shape[:2]


def test_the_same_seed_paints_the_same_picture():
    one, other = (paint(SPECIES[3], np.random.default_rng(11)) for _ in range(2))
    np.testing.assert_array_equal(one.image, other.image)
    np.testing.assert_array_equal(one.mask, other.mask)
    assert not np.array_equal(one.image.shape, paint(SPECIES[3], np.random.default_rng(12)).image.shape)


def test_pictures_are_those_of_this_version():
    """The boxes of three pictures; a change to the painting raises demo.VERSION and records them anew."""
    boxes = [paint(SPECIES[label], np.random.default_rng((0, label, 0))).box for label in (0, 3, 7)]
    assert demo.VERSION == 1
    assert boxes == RECORDED_BOXES


RECORDED_BOXES = [(13, 152, 269, 394), (89, 108, 317, 307), (0, 127, 271, 382)]


@pytest.mark.slow
def test_species_differ_on_the_head_only():
    """Two species from one seed, in the same plumage: every pixel that differs lies in a part of the bird's box."""
    first, second = SPECIES[0], SPECIES[3]
    same_plumage = second.__class__(second.name, second.crest, second.bill, second.face, first.plumage)
    for seed in range(4):
        one, other = (paint(species, np.random.default_rng(seed)) for species in (first, same_plumage))
        differs = np.abs(one.image.astype(int) - other.image).max(axis=2) > 40
        rows, columns = np.flatnonzero(differs.any(1)), np.flatnonzero(differs.any(0))
        part = (rows[-1] - rows[0] + 1) * (columns[-1] - columns[0] + 1)
        x0, y0, x1, y1 = one.box
        assert part < 0.5 * (x1 - x0) * (y1 - y0)


@pytest.mark.slow
def test_objects_are_neither_tiny_nor_everything(root):
    shares = [
        np.prod(sample.boxes[0, 2:] - sample.boxes[0, :2]) / np.prod(sample.size)
        for split in ("train", "test")
        for sample in DataSource("demo", root, split).load()
    ]
    assert min(shares) > 0.05
    assert max(shares) < 0.9
    assert 0.25 < np.mean(shares) < 0.5
    assert len({sample.size for sample in DataSource("demo", root, "test").load()}) > 4
    assert len(PLUMAGES) == len(SPECIES)


@pytest.mark.slow
def test_rendering_again_changes_nothing_and_an_interrupted_one_is_finished(root, tmp_path):
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    demo.render(root, RECIPE)
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before
    partial = tmp_path / "partial"
    partial.mkdir()
    record = (root / demo.RECORD).read_text().replace('"complete": true', '"complete": false')
    (partial / demo.RECORD).write_text(record)
    demo.render(partial, RECIPE, workers=1)
    for name in ("images.txt", "bounding_boxes.txt", "train_test_split.txt"):
        assert (partial / name).read_text() == (root / name).read_text()


@pytest.mark.slow
def test_another_recipe_or_other_files_are_not_overwritten(root, tmp_path):
    with pytest.raises(UserError, match="holds other demo data"):
        demo.render(root, demo.Recipe())
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "me.jpg").touch()
    with pytest.raises(UserError, match="not empty and holds no demo data"):
        demo.render(tmp_path / "photos")
