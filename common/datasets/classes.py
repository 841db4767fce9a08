"""A checkpoint's classes and a data set's, compared by their names wherever the two meet.

| the names | become |
|---|---|
| the same, in the same order | nothing: label and output are one number |
| the same in another order, or some of the checkpoint's | mapped by name; the manifest holds the mapping |
| others | refused, with the first that differ |
| unknown on one side: an authors' file, names guessed from a list's paths | only their number decides |

The true ImageNet head takes classes by synset id or ImageNet name, or by `--data.class-index`; images of any other
class have no label there. Predictions always speak in the data set's numbers; outputs that are none of its classes come
after them.
"""

import functools
import json
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from common.datasets.files.text import lines
from common.datasets.known import imagenet_classes, imagenet_words, known_as
from common.datasets.named import class_names, is_json, refuse_head, refuse_other_order
from common.datasets.sample import Dataset
from common.system.errors import UserError, say
from common.system.files import read_json
from common.system.wording import some

GUESSING = {"list", "wsoleval", "openimages"}
"""Data sets whose classes are numbers; their names are guessed from paths."""
IMAGENET_OUTPUTS = 1000
_SHOWN = 3


@dataclass(frozen=True)
class Matching:
    """Outputs of a network that are the classes of a data set.

    Attributes:
        outputs: of the network, one for each of the data set's labels; empty where its classes are none of the
            network's, so that images have no true class there.
        back: the data set's label for each output; from the number of its classes on for an output that is none.
    """

    outputs: tuple[int, ...]
    back: tuple[int, ...]

    @property
    def labelled(self) -> bool:
        """Whether images have a true class among the network's."""
        return bool(self.outputs)

    @property
    def record(self) -> list[int] | str | None:
        """Entry of a manifest: the output of each label where they differ, `none of the network's`, or None."""
        if not self.labelled:
            return "none of the network's"
        return None if self.outputs == tuple(range(len(self.outputs))) else list(self.outputs)

    def for_network(self, dataset: Dataset) -> Dataset:
        """The data set with the network's outputs as labels; as it is where its classes are none of the network's."""
        if self.record is None or not self.labelled:
            return dataset
        samples = tuple(replace(sample, label=self.outputs[sample.label]) for sample in dataset)
        return replace(dataset, samples=samples)

    def label(self, output: int) -> int:
        """The data set's label of an output."""
        return self.back[output]


def match(
    dataset: Dataset,
    names: Sequence[str] | None,
    outputs: int,
    where: Path | str,
    *,
    imagenet: bool = False,
    exact: bool = False,
    index: Path | None = None,
) -> Matching:
    """Find which output of a network is which class of a data set.

    Args:
        dataset: as loaded.
        names: the checkpoint's class names; None where they are unknown.
        outputs: how many classes the network has; a head may be larger than its names.
        where: the checkpoint, for messages.
        imagenet: it is the true ImageNet head.
        exact: refuse another number of classes where names are unknown.
        index: a file that says which output a class name is.

    Raises:
        UserError: classes that are none of the checkpoint's, or more of them than it has outputs.
    """
    if index is not None:
        told = read_index(index)
        numbers = [_indexed(name, told, index) for name in dataset.class_names]
        if imagenet:
            _check_index(dataset.class_names, numbers, index)
        elif names is not None and dataset.names_known:
            _check_own_names(dataset.class_names, numbers, names, index)
        return _of_numbers(numbers, outputs, where)
    if names is None and not imagenet and dataset.name == "ilsvrc" and len(dataset.class_names) == outputs:
        return _of_numbers(range(outputs), outputs, where)  # a whole list of synsets is the authors' own numbering
    if imagenet or (names is None and outputs == IMAGENET_OUTPUTS and known_as(dataset) != "cub"):
        return _to_imagenet(dataset, outputs)
    if names is None and outputs == IMAGENET_OUTPUTS + 1:
        imagenets = _to_imagenet(dataset, IMAGENET_OUTPUTS).outputs
        if imagenets:
            say([f"note: {where}: its {outputs} outputs are taken as TF-Slim's: background, then ImageNet's classes; "
                 "--data.class-index says otherwise"])  # fmt: skip
            return _of_numbers([1 + number for number in imagenets], outputs, where)
    classes = dataset.class_names
    if names is None or not dataset.names_known:
        return _by_order(classes, outputs if names is None else len(names), outputs, where, exact)
    number = {_form(name): place for place, name in enumerate(names)}
    strange, lacking = differing(classes, names)
    if strange:
        raise UserError(
            f"{some(strange)} of the data set {'is' if len(strange) == 1 else 'are'} no class of the checkpoint",
            where=where, expected=some(lacking) if lacking else some(names),
            do="take the data that it was trained for, or name its classes in order with --data.class-names",
        )  # fmt: skip
    return _of_numbers([number[_form(name)] for name in classes], outputs, where)


def _by_order(classes: Sequence[str], known: int, outputs: int, where: Path | str, exact: bool) -> Matching:
    """The first classes, where no names can be compared; `known` is how many the checkpoint has."""
    if len(classes) > known or (exact and len(classes) != known):
        raise UserError(f"the checkpoint has {known} classes", where=where,
                        expected=f"{'' if exact else 'at least '}{len(classes)}, as the data set has",
                        do="name the checkpoint's classes with --data.class-names")  # fmt: skip
    if len(classes) < known:
        say([f"note: {where}: which of its {known} classes the data set's {len(classes)} are is not known by name; "
             "taken as the first ones, in order; --data.class-index says otherwise"])  # fmt: skip
    return _of_numbers(range(len(classes)), outputs, where)


def differing(names: Sequence[str], others: Sequence[str]) -> tuple[list[str], list[str]]:
    """The `names` that are none of `others`, and the `others` that are none of `names`, as `match` compares them."""
    ours, theirs = set(map(_form, names)), set(map(_form, others))
    return [name for name in names if _form(name) not in theirs], [name for name in others if _form(name) not in ours]


def _of_numbers(numbers: Sequence[int], outputs: int, where: Path | str) -> Matching:
    numbers = tuple(numbers)
    if wrong := [number for number in numbers if not 0 <= number < outputs]:
        raise UserError(f"the network has no output {wrong[0]}", where=where, expected=f"0 to {outputs - 1}")
    if twice := [number for number, count in Counter(numbers).items() if count > 1]:
        raise UserError(f"two classes of the data set are the output {twice[0]}", where=where)
    label_of = {output: label for label, output in enumerate(numbers)}
    rest = iter(range(len(numbers), outputs))
    back = tuple(label_of[output] if output in label_of else next(rest) for output in range(outputs))
    return Matching(numbers, back)


def _to_imagenet(dataset: Dataset, outputs: int) -> Matching:
    if dataset.names_known:
        number = imagenet_numbers()
        found = [number.get(_word(name)) for name in dataset.class_names]
        if None not in found and len(set(found)) == len(found):
            return _of_numbers([place for place in found if place is not None], outputs, "ImageNet's classes")
    elif known_as(dataset) == "ilsvrc" and len(dataset.class_names) <= outputs:
        return _of_numbers(range(len(dataset.class_names)), outputs, "ImageNet's classes")
    return Matching((), tuple(range(len(dataset.class_names), len(dataset.class_names) + outputs)))


@functools.cache
def imagenet_numbers() -> dict[str, int]:
    """Each synset id, and each name that one class alone has, in lower case, with the class's number."""
    words = [{_word(word) for word in of_class} for _, of_class in imagenet_words()]
    shared = Counter(word for of_class in words for word in of_class)
    named = {word: place for place, of_class in enumerate(words) for word in of_class if shared[word] == 1}
    return {**named, **{synset: place for place, synset in enumerate(imagenet_classes())}}


def _word(name: str) -> str:
    """A folder's name as ImageNet's are compared: in lower case, blanks for underscores, a synset id alone."""
    plain = _form(name).lower().replace("_", " ").replace("-", " ").strip()
    found = re.match(r"n\d{8}\b", plain)
    return found[0] if found else plain


def _form(name: str) -> str:
    """A name in one Unicode form, without blanks around it, which a folder's name may have unseen."""
    return unicodedata.normalize("NFC", name).strip()


def read_names(path: Path) -> tuple[str, ...]:
    """Class names in the order of their numbers, one a line, or in JSON as `named.class_names` takes it.

    Raises:
        UserError: no such file, or a name that stands twice.
    """
    names: dict[str, int] = {}
    rows = list(lines(path, do="name a file with a class name in each line"))
    if rows and is_json([text.strip() for _, text in rows]):
        rows = list(enumerate(class_names(path), start=1))
    for line, text in rows:
        if names.setdefault(_form(text.strip()), line) != line:
            raise UserError(f"{text.strip()} stands here twice", where=path, line=line, do="remove one of the lines")
    if not names:
        raise UserError("the file is empty", where=path, expected="a class name in each line")
    return tuple(names)


def renamed(dataset: Dataset, path: Path) -> Dataset:
    """The data set with the classes of a file, in their order: numbered anew by name where its own names are known.

    Raises:
        UserError: a class that is not in the file, or more classes than it has lines.
    """
    names = read_names(path)
    if not dataset.names_known:
        if len(dataset.class_names) > len(names):
            raise UserError(f"{len(names)} class names", where=path, expected=f"at least {len(dataset.class_names)}")
        if len(dataset.class_names) < len(names):
            refuse_head(names, path)
        refuse_other_order(names, path)
        _refuse_other_order(dataset, names, path)
        return replace(dataset, class_names=names, names_known=True)
    number = {name: place for place, name in enumerate(names)}
    if strange := [name for name in dataset.class_names if _form(name) not in number]:
        raise UserError(f"{some(strange)} of the data set stand not in it", where=path,
                        expected="every class of the data set")  # fmt: skip
    place = [number[_form(name)] for name in dataset.class_names]
    samples = tuple(replace(sample, label=place[sample.label]) for sample in dataset)
    return replace(dataset, samples=samples, class_names=names)


def _refuse_other_order(dataset: Dataset, names: Sequence[str], path: Path) -> None:
    """Refuse (`UserError`) names in another order than labels have, which a class's folder shows if it is called so."""
    place = {_form(name): number for number, name in enumerate(names)}
    for label, name in enumerate(dataset.class_names):
        if name != str(label) and place.get(_form(name), label) != label:
            raise UserError(f"{names[label]} is the name of class {label}, and its images lie in the folder {name}",
                            where=path, expected=f"{name} in line {label + 1}")  # fmt: skip


def read_index(path: Path) -> dict[str, int]:
    """Outputs by class name, from lines `name index`, or from JSON: as Keras has it, `{"0": ["n01440764", ...]}`, where
    the number, the synset id and the name all name the class, unless they are another's too; as torchvision's
    `class_to_idx`, `{"cat": 0}`; or a list of names in order.

    Raises:
        UserError: in neither form.
    """
    if path.suffix.lower() == ".json":
        stored = read_json(path)
        try:
            if isinstance(stored, list):
                return {str(name): number for number, name in enumerate(stored) if stored.count(name) == 1}
            if stored and all(type(value) is int for value in stored.values()):
                return {str(name): number for name, number in stored.items()}
            rows = [(int(key), [key, *([value] if isinstance(value, str) else value)]) for key, value in stored.items()]
            shared = Counter(str(name) for number, names in rows for name in {*map(str, names)})
            return {str(name): number for number, names in rows for name in names if shared[str(name)] == 1}
        except (AttributeError, TypeError, ValueError) as error:
            raise UserError(f"no index of classes ({error})", where=path, expected=json.dumps({"0": ["id", "name"]})
                            ) from error  # fmt: skip
    found: dict[str, int] = {}
    for line, text in lines(path):
        split = re.fullmatch(r"(.+?)[\s,;]+(\d{1,6})\s*", text.strip())
        if split is None or split[1] in found:
            raise UserError(f"{text.strip()!r} is no class and output, or stands here twice", where=path, line=line,
                            expected="name index")  # fmt: skip
        found[split[1]] = int(split[2])
    return found


def _indexed(name: str, index: dict[str, int], path: Path) -> int:
    if name not in index:
        raise UserError(f"the class {name} is not in it", where=path, expected="every class of the data set")
    return index[name]


def _check_index(names: Sequence[str], numbers: Sequence[int], path: Path) -> None:
    """Refuse an index for the true ImageNet head that gives a synset id another output than its own, or that is off by
    one for every class, as one that counts from 1.
    """
    true = [imagenet_numbers().get(_word(name)) for name in names]
    off = [(name, number, own) for name, number, own in zip(names, numbers, true, strict=True) if number != own]
    counted_from_one = all(own is not None and number == own + 1 for _, number, own in off) and len(off) == len(names)
    wrong = off if counted_from_one else [each for each in off if each[2] is not None and _is_synset(each[0])]
    if wrong:
        name, number, own = wrong[0]
        raise UserError(f"{name} is output {own} of ImageNet's head, not {number}", where=path,
                        do="count outputs from 0, or leave --data.class-index out")  # fmt: skip


def _check_own_names(classes: Sequence[str], numbers: Sequence[int], names: Sequence[str], path: Path) -> None:
    """Refuse an index that gives a class another output than the checkpoint's class of its name is."""
    known = {_form(name): number for number, name in enumerate(names)}
    for name, number in zip(classes, numbers, strict=True):
        own = known.get(_form(name), number)
        if own != number:
            raise UserError(f"{name} is output {own} of the checkpoint, not {number}", where=path,
                            do="count outputs from 0, or leave --data.class-index out")  # fmt: skip


def _is_synset(name: str) -> bool:
    return re.fullmatch(r"n\d{8}", _word(name)) is not None


def names_of(config: dict[str, Any]) -> tuple[str, ...] | None:
    """A checkpoint's class names; None where it has none, or those that were guessed from the paths of its images."""
    data = config.get("trained_on")
    guessed = isinstance(data, dict) and data.get("name") in GUESSING and not data.get("class_names")
    names = config.get("class_names")
    return None if guessed or not names else tuple(names)


MapClass = Literal["label", "predicted"]
"""Class whose map is made: the true one, or the best-scoring one."""


def which_map(asked: MapClass | None, matching: Matching) -> MapClass:
    """Class whose map is made, `label` or `predicted`: as asked for, by default the true class's where there is one.

    Raises:
        UserError: the true class's was asked for and the network has none of these classes.
    """
    if matching.labelled:
        return asked or "label"
    if asked == "label":
        raise UserError("the data set's classes are none of the network's, so no map can be the true class's",
                        expected="--map-class predicted, or --data.class-index")  # fmt: skip
    say([
        "note: the data set's classes are none of the network's (neither synset ids nor ImageNet names); every map is "
        "the predicted class's, and nothing is classified; --data.class-index FILE says which output a class is"
    ])  # fmt: skip
    return "predicted"
