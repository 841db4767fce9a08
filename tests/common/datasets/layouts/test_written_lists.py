"""Lists that are written, and read again."""

import numpy as np
import pytest

from common.datasets import Dataset, DataSource, Sample
from common.datasets.layouts import lists, written_lists, wsoleval
from common.system.errors import UserError
from tests import small_cub
from tests.common.datasets.layouts import test_ilsvrc

NAMES = ("a b/c d.jpg", "a, b/c,1,2 3.jpg", "a;b/c;1.jpg", "a/'q' \"r\".jpg", "B\u00e4r/1.jpg", "Ba\u0308r/1.jpg", " a/1.jpg",
         "a/7 1.jpg", "a/1,0,1 2 3 4.jpg", "a/#1 & %20 = +.jpg", "\u9ce5/\u9ce5 (1).jpg")  # fmt: skip


def named(tmp_path, boxes=1):
    box = np.array([[1.0, 2, 30, 40], [3, 4, 5, 6]])[:boxes]
    return tuple(Sample(name, tmp_path / name, 1, box, declared_size=(50, 40)) for name in NAMES)


@pytest.mark.parametrize("split", ["train", "test"])
def test_every_legal_name_is_read_as_it_was_written(tmp_path, split):
    dataset = Dataset("cub", split, named(tmp_path), ("a", "b"))
    written_lists.write_all({split: dataset}, tmp_path, "cub")
    if split == "test":
        same(lists.read_bas(tmp_path / "bas/test_list.txt", tmp_path / "bas/test_gt.txt"), dataset)
    name = "train" if split == "train" else "val"
    same(lists.read_spol(tmp_path / f"spol/{name}.txt"), dataset)
    same(lists.read_dgl(tmp_path / f"dgl/labels/CUB/{name}.txt", sides=split == "train"), dataset)
    wsoleval.write(dataset, tmp_path / "metadata")
    again = DataSource("wsoleval", tmp_path, split, metadata=tmp_path / "metadata").load()
    assert again.fingerprint() == dataset.fingerprint()


@pytest.mark.parametrize("boxes", [0, 1, 2])
def test_every_legal_name_of_ilsvrc(tmp_path, boxes):
    different = tuple({sample.path.name: sample for sample in named(tmp_path, boxes)}.values())
    test = Dataset("ilsvrc", "test", different, ("n1 x", "n2,y"))
    written_lists.write_all(
        {"train": Dataset("ilsvrc", "train", named(tmp_path), ("n1", "n2")), "test": test}, tmp_path, "ilsvrc"
    )
    read = {
        "spol": lists.read_spol(tmp_path / "spol/val.txt"), "dgl": lists.read_dgl(tmp_path / "dgl/labels/ILSVRC12/val.txt"),
        "bas": lists.read_bas(tmp_path / "bas/val_list.txt", tmp_path / "bas/val_gt.txt"),
    }  # fmt: skip
    for form, entries in read.items():
        ends = sorted(image_id.rsplit("/", 1)[-1] for image_id, _, _ in entries)
        assert (form, ends) == (form, sorted(sample.path.name for sample in different))
    assert {len(found) for _, _, found in read["bas"]} == {boxes}
    for entries in (
        lists.read_spol(tmp_path / "spol/train.txt"),
        lists.read_dgl(tmp_path / "dgl/labels/ILSVRC12/train.txt"),
    ):
        assert [image_id for image_id, _, _ in entries] == list(NAMES)


def test_nothing_is_written_where_a_name_cant_be(tmp_path):
    """A name that looks like a line of the other form; the good split's lists are not written either."""
    odd = Sample("a/1,0,1 2", tmp_path / "a/1,0,1 2", 0, np.array([[1.0, 2, 3, 4]]), declared_size=(5, 5))
    splits = {
        "train": Dataset("ilsvrc", "train", (odd,), ("a", "b")),
        "test": Dataset("ilsvrc", "test", named(tmp_path)[:2], ("a", "b")),
    }
    with pytest.raises(UserError, match=r"spol/train.txt can't hold the name 'a/1,0,1 2'"):
        written_lists.write_all(splits, tmp_path / "out", "ilsvrc")
    with pytest.raises(UserError, match="1.jpg is the name of two images"):
        written_lists.write_all(
            {"test": Dataset("ilsvrc", "test", named(tmp_path), ("a", "b"))}, tmp_path / "out", "ilsvrc"
        )
    assert not (tmp_path / "out").exists()


def same(entries, dataset):
    expected = {sample.image_id: (sample.label, sample.boxes.tolist()) for sample in dataset}
    assert {image_id: (label, boxes.tolist()) for image_id, label, boxes in entries} == expected


def test_lists_of_a_cub_like_data_set(tmp_path):
    root = small_cub.make(tmp_path / "CUB")
    splits = {split: DataSource("cub", root, split).load() for split in ("train", "test")}
    out = tmp_path / "lists"
    written = written_lists.write_all(splits, out, "cub")
    assert {path.relative_to(out).as_posix() for path in written} == {
        "spol/train.txt", "spol/val.txt", "dgl/labels/CUB/train.txt", "dgl/labels/CUB/val.txt",
        "bas/test_list.txt", "bas/test_gt.txt", "bas/test_bounding_box.txt",
    }  # fmt: skip
    same(lists.read_spol(out / "spol/train.txt"), splits["train"])
    same(lists.read_spol(out / "spol/val.txt"), splits["test"])
    same(lists.read_bas(out / "bas/test_list.txt", out / "bas/test_gt.txt"), splits["test"])
    same(lists.read_dgl(out / "dgl/labels/CUB/val.txt"), splits["test"])
    same(lists.read_dgl(out / "dgl/labels/CUB/train.txt", sides=True), splits["train"])
    assert (out / "bas/test_list.txt").read_bytes().startswith(b"001.Red_Bird/bird_2.png;0\r\n")
    assert (out / "bas/test_gt.txt").read_bytes().startswith(b"2.0 2.0 32.0 42.0 60 80\n")
    assert (out / "spol/val.txt").read_bytes().startswith(b"001.Red_Bird/bird_2.png,0,2 2 32 42\n")
    assert (
        (out / "dgl/labels/CUB/val.txt").read_bytes().startswith(b"001.Red_Bird/bird_2.png\t0\t2.0\t2.0\t32.0\t42.0\n")
    )


def test_lists_of_ilsvrc(tmp_path):
    root = test_ilsvrc.make(tmp_path / "ILSVRC")
    splits = {"train": DataSource("ilsvrc", root, "train").load(), "test": DataSource("ilsvrc", root, "val").load()}
    out = tmp_path / "lists"
    written_lists.write_all(splits, out, "ilsvrc", dict(zip(test_ilsvrc.WNIDS, test_ilsvrc.WORDS, strict=True)))
    assert (out / "spol/val.txt").read_text().splitlines()[0] == "ILSVRC2012_val_00000001.JPEG 2"
    assert (out / "bas/val_list.txt").read_text().splitlines()[0] == "n01484850/ILSVRC2012_val_00000001.JPEG;2"
    first = (out / "bas/val_gt.txt").read_bytes().split(b"\r\n")[0]
    assert first == b"n01484850\\\\ILSVRC2012_val_00000001.JPEG 50 40 ; 1 2 21 30"
    assert (out / "grcam/synset1.txt").read_text().endswith("n01484850 great white shark")
    assert (out / "spol/name.txt").read_text().splitlines()[0] == "tench, Tinca tinca"
    entries = lists.read_bas(out / "bas/val_list.txt", out / "bas/val_gt.txt")
    assert [(label, len(boxes)) for _, label, boxes in entries] == [(2, 1), (0, 1), (1, 2), (0, 1)]
    numbering = np.load(out / "spol/cls2idx.npy", allow_pickle=True).item()  # as SPOL's code reads it
    assert numbering == {wnid: label for label, wnid in enumerate(test_ilsvrc.WNIDS)}


def test_a_list_as_a_data_set(tmp_path):
    root = small_cub.make(tmp_path / "CUB")
    splits = {"test": DataSource("cub", root, "test").load()}
    written_lists.write_all(splits, tmp_path / "lists", "cub")
    sources = (
        ("spol", "spol/val.txt", None),
        ("dgl", "dgl/labels/CUB/val.txt", None),
        ("bas", "bas/test_list.txt", "bas/test_gt.txt"),
    )
    for list_format, file, boxes in sources:
        dataset = DataSource(
            "list", root / "images", "test", list_file=tmp_path / "lists" / file, list_format=list_format,
            boxes=boxes and tmp_path / "lists" / boxes,
        ).load()  # fmt: skip
        assert dataset.fingerprint() == splits["test"].fingerprint()
        assert dataset.class_names == small_cub.CLASSES


def test_a_style_is_cubs_or_ilsvrcs(tmp_path):
    with pytest.raises(ValueError, match="unknown style 'voc'"):
        written_lists.write_all({"test": Dataset("cub", "test", (), ())}, tmp_path, "voc")
