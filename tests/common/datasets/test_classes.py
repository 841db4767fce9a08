import numpy as np
import pytest

from common.datasets import classes, known
from common.datasets.sample import Dataset, Sample
from common.measuring.geometry import Frame
from common.runs.reader import Predictions
from common.runs.record import Prediction
from common.runs.writer import PredictionsWriter
from common.system.errors import UserError


def dataset(*names, known=True, name="folder"):
    samples = tuple(Sample(f"{label}.jpg", None, label) for label in range(len(names)))
    return Dataset(name, "test", samples, names, names_known=known)


def match(data, names, outputs=None, **options):
    return classes.match(data, names, outputs or len(names), "final.pth", **options)


def test_equal_names_need_no_mapping():
    found = match(dataset("cat", "dog"), ("cat", "dog"))
    assert (found.outputs, found.back, found.record) == ((0, 1), (0, 1), None)


def test_names_are_mapped_by_name():
    """cat and owl of cat, dog, fox, owl are the outputs 3 and 0; dog and fox come after the data set's two classes."""
    found = match(dataset("owl", "cat"), ("cat", "dog", "fox", "owl"), exact=True)
    assert (found.outputs, found.back, found.record) == ((3, 0), (1, 2, 3, 0), [3, 0])
    assert [sample.label for sample in found.for_network(dataset("owl", "cat"))] == [3, 0]
    assert [found.label(output) for output in range(4)] == [1, 2, 3, 0]


def test_larger_heads_and_first_classes_are_no_mapping():
    assert match(dataset("a", "b"), ("a", "b", "c"), 1000).record is None
    assert match(dataset("a", "b"), ("a", "b", "c"), 1000).back == tuple(range(1000))


def test_accents_are_compared_in_one_form():
    assert match(dataset("caf\u00e9"), ("cafe\u0301",)).record is None


def test_blanks_around_a_name_are_not_compared():
    assert match(dataset("cat ", "dog"), ("dog", "cat"), 2).record == [1, 0]


def test_other_names_are_refused():
    message = "final.pth: owl of the data set is no class of the checkpoint; expected dog. Take the data"
    with pytest.raises(UserError, match=message):
        match(dataset("cat", "fox", "owl"), ("cat", "dog", "fox"))


def test_where_names_are_unknown_their_number_decides():
    assert match(dataset("val", "val", known=False), ("n1", "n2")).record is None
    assert match(dataset("a", "b"), None, 5).outputs == (0, 1)
    with pytest.raises(UserError, match="the checkpoint has 5 classes; expected 2, as the data set has"):
        match(dataset("a", "b"), None, 5, exact=True)
    with pytest.raises(UserError, match="the checkpoint has 2 classes; expected at least 3"):
        match(dataset("a", "b", "c", known=False), ("x", "y"))


def test_fewer_classes_of_unknown_names_are_said_to_be_the_first(capsys):
    match(dataset("a", "b"), None, 7)
    assert "final.pth: which of its 7 classes the data set's 2 are is not known by name" in capsys.readouterr().err
    match(dataset("a", "b"), None, 2)
    assert capsys.readouterr().err == ""


def test_a_checkpoints_names_from_a_list_are_guesses():
    config = {"class_names": ["a"], "trained_on": {"name": "list", "class_names": None}}
    assert classes.names_of(config) is None
    assert classes.names_of({**config, "trained_on": {"name": "list", "class_names": "names.txt"}}) == ("a",)
    assert classes.names_of({**config, "trained_on": {"name": "cub"}}) == ("a",)
    assert classes.names_of({}) is None


def test_imagenets_classes():
    """n02123045 is 281 and n07920052 967 in every list of ImageNet's classes; 134 and 517 are both called crane."""
    assert (len(known.imagenet_classes()), known.imagenet_classes()[281]) == (1000, "n02123045")
    numbers = classes.imagenet_numbers()
    assert (numbers["n02123045"], numbers["n07920052"], numbers["tabby"], numbers["espresso"]) == (281, 967, 281, 967)
    assert "crane" not in numbers


def test_imagenets_names_are_torchvisions_and_told_apart():
    names = known.imagenet_names()
    assert len(set(names)) == 1000
    assert (names[134], names[146], names[517], names[638], names[639]) == (
        "crane bird", "albatross", "crane", "maillot", "maillot tank suit",
    )  # fmt: skip
    models = pytest.importorskip("torchvision.models")
    assert names == tuple(models.ResNet50_Weights.IMAGENET1K_V1.meta["categories"])


@pytest.mark.parametrize("names", [
    ("n02123045", "n07920052"), ("n02123045_tabby", "n07920052 espresso"), ("tabby_cat", "Espresso"),
])  # fmt: skip
def test_the_imagenet_head_knows_ids_and_names(names):
    found = match(dataset(*names), None, 1000, imagenet=True)
    assert (found.outputs, found.label(281), found.label(967)) == ((281, 967), 0, 1)
    assert sorted(found.back) == list(range(1000))


@pytest.mark.parametrize("names", [("0", "1", "10"), ("n02123045", "my cat"), ("crane", "tabby")])
def test_other_folders_have_no_label_in_the_imagenet_head(names, capsys):
    found = match(dataset(*names), None, 1000, imagenet=True)
    assert (found.labelled, found.record) == (False, "none of the network's")
    assert min(found.back) == len(names)
    assert classes.which_map(None, found) == classes.which_map("predicted", found) == "predicted"
    with pytest.raises(UserError, match="no map can be the true class's"):
        classes.which_map("label", found)


def test_one_output_more_than_imagenets_is_tf_slims_background(capsys):
    found = match(dataset("n01443537", "n01440764"), None, 1001)
    assert found.outputs == (2, 1)  # goldfish is ImageNet's class 1, tench its class 0
    assert [found.label(output) for output in (2, 1, 0)] == [0, 1, 2]
    assert "its 1001 outputs are taken as TF-Slim's: background, then ImageNet's classes" in capsys.readouterr().err
    assert match(dataset("cat nap", "dog day"), None, 1001).outputs == (0, 1)
    assert match(dataset("n01443537", "n01440764"), ("n01440764", "n01443537"), 1001).outputs == (1, 0)


def test_a_thousand_outputs_of_the_authors_are_imagenets_but_for_cub():
    birds = dataset("001.Black_footed_Albatross", "002.Laysan_Albatross", name="cub")
    assert match(birds, None, 1000).outputs == (0, 1)
    assert not match(dataset("cat", "my own"), None, 1000).labelled
    assert match(dataset("n01440764", "n01443537", known=False, name="list"), None, 1000).outputs == (0, 1)


@pytest.mark.parametrize(("name", "text"), [
    ("index.txt", "10 7\n2,3\n"), ("index.json", '{"7": ["n7", "10"], "3": ["2", "x"]}'),
    ("index.json", '{"2": 3, "10": 7}'), ("index.json", '["a", "b", "c", "2", "d", "e", "f", "10"]'),
])  # fmt: skip
def test_an_index_says_which_output_a_class_is(tmp_path, name, text):
    path = tmp_path / name
    path.write_text(text)
    found = match(dataset("10", "2"), None, 8, index=path)
    assert (found.outputs, found.back) == ((7, 3), (2, 3, 4, 1, 5, 6, 7, 0))
    with pytest.raises(UserError, match=f"{name}: the class 5 is not in it"):
        match(dataset("5"), None, 8, index=path)
    with pytest.raises(UserError, match="the network has no output 7; expected 0 to 4"):
        match(dataset("10", "2"), None, 5, index=path)


def test_a_name_of_two_outputs_is_none(tmp_path):
    """ImageNet has two cranes and two maillots."""
    path = tmp_path / "index.json"
    path.write_text('{"134": ["n02012849", "crane"], "517": ["n03126707", "crane"]}')
    assert classes.read_index(path) == {"134": 134, "n02012849": 134, "517": 517, "n03126707": 517}


def test_names_in_another_order_than_the_labels_are_refused(tmp_path):
    """Labels of a list are numbers; its images lie in cat/ and dog/."""
    path = tmp_path / "names.txt"
    path.write_text("dog\ncat\n")
    with pytest.raises(
        UserError, match="dog is the name of class 0, and its images lie in the folder cat; expected cat in line 1"
    ):
        classes.renamed(dataset("cat", "dog", known=False), path)
    path.write_text("cat\ndog\nfox\n")
    assert classes.renamed(dataset("cat", "1", known=False), path).class_names == ("cat", "dog", "fox")


def test_numbers_of_folders_are_keras_numbers(tmp_path):
    """ImageNetV2's folders 0 to 999 sort as text: 10 stands third, and is the output 10."""
    path = tmp_path / "imagenet_class_index.json"
    path.write_text('{"0": ["n01440764", "tench"], "1": ["n01443537", "goldfish"], "10": ["n01530575", "brambling"]}')
    assert match(dataset("0", "1", "10"), None, 1000, imagenet=True, index=path).outputs == (0, 1, 10)


@pytest.mark.parametrize("text", ["cat\n", "cat 1\ncat 2\n"])
def test_faulty_indices_are_refused(tmp_path, text):
    (tmp_path / "index.txt").write_text(text)
    with pytest.raises(UserError, match="index.txt:"):
        classes.read_index(tmp_path / "index.txt")


def test_class_names_of_a_file(tmp_path):
    path = tmp_path / "names.txt"
    path.write_text("cat\ndog\nfox\n")
    found = classes.renamed(dataset("fox", "cat"), path)
    assert ([sample.label for sample in found], found.class_names) == ([2, 0], ("cat", "dog", "fox"))
    guessed = classes.renamed(dataset("val", "val", known=False), path)
    assert ([sample.label for sample in guessed], guessed.names_known) == ([0, 1], True)
    path.write_text("1 dog\n0 cat\n")
    with pytest.raises(UserError, match="names.txt: the lines are numbered, and stand in another order"):
        classes.renamed(dataset("val", "val", known=False), path)
    for text in ('["cat", "dog"]', '[\n  "cat",\n  "dog"\n]\n', '{\n "0": "cat",\n "1": "dog"\n}'):
        path.write_text(text)
        assert classes.renamed(dataset("val", "val", known=False), path).class_names == ("cat", "dog")
    for head in ("name", "class_name", "id,name", "Label; Class"):
        path.write_text(f"{head}\ncat\ndog\n")
        with pytest.raises(UserError, match=f"names.txt:1: the first line, '{head}', seems to name the columns"):
            classes.renamed(dataset("val", "val", known=False), path)
        assert len(classes.renamed(dataset("a", "b", "c", known=False), path).class_names) == 3
    path.write_text("cat\ndog\nfox\n")
    with pytest.raises(UserError, match="names.txt: owl of the data set stand not in it"):
        classes.renamed(dataset("owl"), path)
    path.write_text("cat\ncat\n")
    with pytest.raises(UserError, match="names.txt:2: cat stands here twice"):
        classes.read_names(path)


@pytest.mark.parametrize(("data", "label", "top5", "expected"), [
    (("owl", "cat"), 3, (0, 3, 1), (0, (1, 0, 2))), (("my own", "other"), 1, (0, 3, 1), (1, None)),
])  # fmt: skip
def test_predictions_speak_in_the_data_sets_numbers(tmp_path, data, label, top5, expected):
    """Of cat dog fox owl; where no class is the network's, nobody has classified."""
    if data == ("owl", "cat"):
        matching = match(dataset(*data), ("cat", "dog", "fox", "owl"))
    else:
        matching = classes.Matching((), (2, 3, 4, 5))
    writer = PredictionsWriter(tmp_path / "run", {"options": {}}, classes=matching)
    frame = Frame.squash((8, 6))
    writer.write(Prediction("a.jpg", label, (8, 6), frame, top5, (0.5, 0.3, 0.2), np.array([0, 0, 2, 2]), 0.2))
    writer.finish()
    read = Predictions.open(tmp_path / "run")
    assert (read.entries[0].label, read.entries[0].top5) == expected
    assert read.manifest["options"]["classes"] == matching.record


def test_a_whole_list_of_synsets_is_the_authors_own_numbering():
    """An authors' head of 1000 classes, and a list of 1000 synsets that are not ImageNet's of today: the number decides."""
    wnids = tuple(f"n{1440764 + number:08d}" for number in range(1000))
    matching = classes.match(Dataset("ilsvrc", "val", (), wnids), None, 1000, "authors.npz")
    assert matching.labelled
    assert matching.outputs == tuple(range(1000))


def test_an_index_that_contradicts_the_checkpoints_names_is_refused(tmp_path):
    """One that counts from 1; other names may be any output."""
    path = tmp_path / "index.txt"
    path.write_text("cat 1\ndog 2\nbitch 1\n")
    with pytest.raises(UserError, match="index.txt: cat is output 0 of the checkpoint, not 1. Count outputs from 0"):
        match(dataset("cat"), ("cat", "dog", "fox"), 3, index=path)
    assert match(dataset("bitch"), ("cat", "dog", "fox"), 3, index=path).outputs == (1,)
    assert match(dataset("cat", known=False), ("cat", "dog", "fox"), 3, index=path).outputs == (1,)


def test_an_index_that_contradicts_the_imagenet_head_is_refused(tmp_path):
    """n01440764 is output 0. Names may be given any output, unless all are off by one; goldfish is 1."""
    path = tmp_path / "index.txt"
    path.write_text("n01440764 1\nn01443537 1\ngoldfish 2\nmouse 333\ntench 0\nhen 9\n")
    for name, own, said in (("n01440764", 0, 1), ("goldfish", 1, 2), ("hen", 8, 9)):
        with pytest.raises(UserError, match=f"index.txt: {name} is output {own} of ImageNet's head, not {said}. Count"):
            match(dataset(name), None, 1000, imagenet=True, index=path)
    assert match(dataset("n01443537", "mouse", "tench"), None, 1000, imagenet=True, index=path).outputs == (1, 333, 0)
    assert match(dataset("n01440764"), None, 1000, index=path).outputs == (1,)
