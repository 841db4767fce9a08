import numpy as np
import pytest
from PIL import Image

from common.datasets import DataSource, alike, trained
from common.datasets.sample import Dataset, Sample
from common.system.errors import UserError
from tests import small_cub


def samples(folder, names, first=0):
    """Pictures of one grey each, the first of them `first`."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, name in enumerate(names, start=first):
        Image.new("L", (8, 6), number).save(folder / name)
    return tuple(Sample(name, folder / name, 0) for name in names)


def record(folder, images, name="folder", split="train", **fields):
    trained.note(folder, images, {"name": name, "split": split, **fields})
    return trained.read(folder / "final.pth")


def test_the_same_files_are_the_same_images_wherever_they_lie(tmp_path):
    found = record(tmp_path / "run", samples(tmp_path / "train", ["a.png", "b.png", "c.png"]))
    assert found.identities.shape == (3, 2)
    other = samples(tmp_path / "copy", ["1.png", "2.png", "3.png", "4.png"], first=2)  # greys 2 to 5, of 0 to 2
    assert found.among(Dataset("folder", "test", other, ("x",))) == ["1.png"]
    same_names = samples(tmp_path / "test", ["a.png", "b.png"], first=7)
    assert found.among(Dataset("folder", "test", same_names, ("x",))) == []


def test_images_of_own_ids_are_the_same_ones_encoded_anew(tmp_path):
    found = record(tmp_path / "run", samples(tmp_path / "train", ["a.png", "b.png"]), "cub")
    anew = samples(tmp_path / "anew", ["b.png", "c.png"], first=7)
    assert found.among(Dataset("cub", "test", anew, ("x",))) == ["b.png"]
    assert found.among(Dataset("ilsvrc", "val", anew, ("x",))) == []


def test_images_that_are_gone_are_told_by_split_and_id(tmp_path):
    found = record(tmp_path / "run", samples(tmp_path / "train", ["a.png"]))
    gone = (Sample("a.png", tmp_path / "gone/a.png", 0),)
    assert found.among(Dataset("folder", "train", gone, ("x",))) == ["a.png"]
    assert found.among(Dataset("folder", "test", gone, ("x",))) == []


def test_content_is_size_beginning_middle_and_end(tmp_path):
    block, path = 16_384, tmp_path / "large"
    base = bytearray(4 * block)
    contents = set()
    for place in (None, 0, 2 * block, 4 * block - 1):
        changed = bytearray(base)
        if place is not None:
            changed[place] = 1
        path.write_bytes(changed)
        contents.add(trained.content_of(path))
        path.unlink()
    path.write_bytes(base + b"\0")
    assert len(contents | {trained.content_of(path)}) == 5
    assert trained.content_of(tmp_path) == trained.content_of(tmp_path / "gone") == 0


def test_records_lie_beside_checkpoints(tmp_path):
    images = samples(tmp_path / "train", ["a.png"])
    record(tmp_path / "run", images)
    assert trained.read(tmp_path / "run").split == trained.read(tmp_path / "run/model-8").split == "train"
    (tmp_path / "run" / trained.FILE).rename(tmp_path / f"net.npz.{trained.FILE}")
    assert trained.read(tmp_path / "net.npz").name == "folder"
    assert trained.read(tmp_path / "run/final.pth") is trained.read("imagenet:mobilenet_v1") is None


def test_a_training_that_starts_from_another_has_its_images_too(tmp_path):
    first, second = samples(tmp_path / "one", ["a.png"]), samples(tmp_path / "two", ["b.png"], first=5)
    before = record(tmp_path / "first", first, split="test", train_on_evaluation_split=True)
    trained.note(tmp_path / "second", second, {"name": "folder", "split": "train"}, [None, before])
    both = trained.read(tmp_path / "second")
    assert both.among(Dataset("folder", "x", first + second, ("x",))) == ["a.png", "b.png"]
    assert both.on_evaluation_split


@pytest.mark.parametrize("text", ["[]", "{}", '{"format": 1, "identities": "AAAA"}', '{"format": 2}'])
def test_faulty_records_are_refused(tmp_path, text):
    (tmp_path / trained.FILE).write_text(text)
    with pytest.raises(UserError, match=f"{trained.FILE}: no record of the training's images"):
        trained.read(tmp_path / "final.pth")


def test_what_a_manifest_says(tmp_path):
    source = DataSource("cub", small_cub.make(tmp_path / "CUB"), "train", held_per_class=1)
    record(tmp_path / "run", source.load().samples, "cub")
    final = tmp_path / "run/final.pth"
    other = DataSource("cub", source.root, "train")
    said = other.described(other.load(), final)["trained_images"]
    assert (said["known"], len(said["images"]), said["evaluation_split"]) == (True, 3, None)
    some = other.described(other.load(), final, "imagenet:mobilenet_v1")["trained_images"]
    assert (some["known"], some["images"]) == (False, said["images"])
    assert other.described(other.load())["trained_images"] == trained.UNKNOWN
    flagged = {"known": True, "images": ["x"], "evaluation_split": "test"}
    joined = trained.joined([said, flagged])
    assert joined == {"known": True, "images": [*said["images"], "x"], "evaluation_split": "test", "chosen": []}
    assert trained.joined([said, {**flagged, "chosen": ["y"]}])["chosen"] == ["y"]
    assert not trained.joined([{**said, "chosen": [1]}])["known"]
    assert trained.joined([said, None])["known"] is trained.joined([{**said, "images": [1]}])["known"] is False


def test_steps_of_a_training(tmp_path):
    """Counted in a log from 0; of DGL recorded; by a checkpoint's name; none of ImageNet's own weights."""
    for name in ("torch", "dgl", "bare"):
        (tmp_path / name).mkdir()
    (tmp_path / "torch" / trained.LOG).write_text('{"step": 0, "loss": 2.0}\n{"step": 239, "loss": 1.0}\n')
    (tmp_path / "torch" / trained.TRAINING).write_text('{"options": {"epochs": 3}}')
    (tmp_path / "dgl" / trained.TRAINING).write_text('{"options": {"epochs": 3, "steps_per_epoch": 12}}')
    assert trained.steps(tmp_path / "torch/final.pth") == 240
    assert trained.steps(tmp_path / "torch/step-00000120.pth") == 120
    assert trained.steps(tmp_path / "dgl") == trained.steps(tmp_path / "dgl/final.npz") == 36
    assert trained.steps(tmp_path / "torch/model-8") is trained.steps(tmp_path / "bare/final.pth") is None
    assert trained.steps("imagenet:mobilenet_v1") == 0
    source = DataSource("cub", small_cub.make(tmp_path / "CUB"), "train")
    said = source.described(source.load(), tmp_path / "torch/final.pth", "imagenet:mobilenet_v1", None)
    assert said["training_steps"] == [240, 0, None]
    assert alike({key: value for key, value in said.items() if key != "training_steps"}, said)


def test_a_checkpoint_is_told_by_its_digest():
    """Its training may not have been noted yet."""
    checkpoint = {"name": "a.npz", "sha256": "0" * 64}
    assert alike(checkpoint, {**checkpoint, "training": {"seed": 0}})
    assert not alike({**checkpoint, "sha256": "1" * 64}, {**checkpoint, "training": {"seed": 0}})


def test_the_best_of_several_says_what_it_was_chosen_on(tmp_path):
    """The checkpoints named in the record were, under any ending that TensorFlow takes; the last one was not."""
    root = small_cub.make(tmp_path / "CUB")
    source = DataSource("cub", root, "test")
    trained.note_chosen(tmp_path / "run", ["best_top1.pth", "min-val-error-top1"], source.load().first_classes(2))
    ids = [sample.image_id for sample in source.load().first_classes(2)]
    for name in ("best_top1.pth", "min-val-error-top1", "min-val-error-top1.index"):
        assert source.described(source.load(), tmp_path / "run" / name)["trained_images"]["chosen"] == ids
    for name in ("final.pth", "min-val"):
        assert source.described(source.load(), tmp_path / "run" / name)["trained_images"]["chosen"] == []
    train = source.at("train")
    assert train.described(train.load(), tmp_path / "run/best_top1.pth")["trained_images"]["chosen"] == []
    (tmp_path / "run" / trained.CHOSEN).write_text('{"checkpoints": "best_top1.pth"}')
    with pytest.raises(UserError, match="no record of the checkpoints that were chosen"):
        trained.read_chosen(tmp_path / "run/best_top1.pth")


def test_identities_are_read_back(tmp_path):
    images = samples(tmp_path / "train", ["a.png", "b.png"])
    assert np.array_equal(record(tmp_path / "run", images).identities, trained.identities(images))


def listed(folder, rows, name="list", **options):
    """A data set of `name` whose images have these labels by path."""
    folder.mkdir(exist_ok=True)
    (folder / "list.txt").write_text("".join(f"{path} {label}\n" for path, label in rows.items()))
    for path in rows:
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("L", (8, 6), len(path)).save(folder / path)
    return DataSource(name, folder, "test", list_file=folder / "list.txt", **options)


@pytest.mark.parametrize(("rows", "message"), [
    ({"x/cat/9.jpg": 0, "x/dog/9.jpg": 1}, None),
    ({"dog/9.jpg": 1}, None),
    ({"9.jpg": 1, "8.jpg": 0}, None),
    ({"val/9.jpg": 1, "val/8.jpg": 0}, None),
    ({"owl/9.jpg": 0, "fox/9.jpg": 1}, None),
    ({"cat/9.jpg": 1, "dog/9.jpg": 0}, "images of 'cat' have the label 1, and had 0 in the training"),
    ({"cat/9.jpg": 1, "dog/9.jpg": 2}, "images of 'cat' have the label 1, and had 0 in the training"),
])  # fmt: skip
def test_labels_that_contradict_those_of_the_training_are_refused(tmp_path, rows, message):
    """A list has numbers alone; its folders show where they are other classes' than in the training's list."""
    training = listed(tmp_path / "train", {"cat/1.jpg": 0, "cat/2.jpg": 0, "dog/1.jpg": 1})
    trained.note(tmp_path / "run", training.load().samples, training.to_json())
    source = listed(tmp_path / "test", rows)
    if message is None:
        assert source.described(source.load(), tmp_path / "run/final.pth")["images"] == len(rows)
        return
    with pytest.raises(UserError, match=f"final.pth: {message}; expected one numbering of the classes"):
        source.described(source.load(), tmp_path / "run/final.pth")
    (tmp_path / "names.txt").write_text("a\nb\nc\n")
    named = listed(tmp_path / "test", rows, class_names=tmp_path / "names.txt")
    assert named.described(named.load(), tmp_path / "run/final.pth")["images"] == len(rows)


def test_labels_of_known_names_are_compared_by_name_alone(tmp_path):
    """A class folder's number is its place among the sorted ones, which is another in a subset; `classes.match` maps it."""
    for image_id in ("train/cat/1.png", "train/dog/1.png", "test/dog/1.png"):
        samples(tmp_path / image_id.rpartition("/")[0], ["1.png"], first=len(image_id))
    source = DataSource("folder", tmp_path, "train")
    trained.note(tmp_path / "run", source.load().samples, source.to_json())
    assert trained.read(tmp_path / "run/final.pth").folders == {"cat": 0, "dog": 1}
    assert source.at("test").described(source.at("test").load(), tmp_path / "run/final.pth")["images"] == 1
