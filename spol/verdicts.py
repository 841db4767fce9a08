"""A classifier's verdict on each image, as the hand-over from stage cls to stage seg.

Three forms are read:

| form | holds |
|---|---|
| `classification.json`, what `spol.cls.test` writes | the five best classes of each image, and their probabilities |
| a predictions directory of any method here | the same |
| the original's `top1top5.npy` | whether the best class, and one of the five best, is right |

The `.npy` is a pickled dictionary, `{path: [bool, bool]}`. It is read by an unpickler that knows stand-ins for numpy's
array and its type and nothing else, so a file that would run code, or take memory for an array, is refused.
"""

import hashlib
import io
import json
import pickle
import pickletools
import reprlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from common.datasets import Sample
from common.datasets.sample import MAX_CLASSES
from common.pytorch import pickles
from common.runs.reader import Predictions
from common.system.errors import UserError
from common.system.files import need_file, read_json, write_atomically, write_json

FORMAT = 1
MOST_REPETITIONS = 32
"""Most references to earlier parts, in a pickled dictionary."""


@dataclass(frozen=True)
class Verdict:
    """One image's classes.

    Attributes:
        top5: the best classes, best first; from the original's file, which names none, the true class where it was
            said to be, and as any other class the number after the last.
        scores: their probabilities; None from the original's file.
    """

    top5: tuple[int, ...]
    scores: tuple[float, ...] | None


@dataclass(frozen=True)
class Verdicts:
    """A classifier's verdicts on a data set.

    Attributes:
        by_image: by image id, or by the path in the original's list file.
        classifier: its name.
        crops: of each image that it looked at; None where nothing says so.
        labels: true classes as the classifier's data set had them, by image id, where the file says them.
        skipped: why an image has no verdict, by image id.
        trained_images: which of the images the classifier was trained on, as `common.datasets.trained` says it; None
            where nothing does.
    """

    by_image: Mapping[str, Verdict | tuple[bool, bool]]
    classifier: str
    crops: int | None = None
    labels: Mapping[str, int] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    trained_images: Any = None

    @property
    def sha256(self) -> str:
        """The digest of what is said of the images, whatever file says it and wherever they lie."""
        rows: dict[str, Any] = {}
        for name, said in self.by_image.items():
            if isinstance(said, Verdict):
                rows[name] = [said.top5, [float(score) for score in said.scores or ()]]
            else:
                rows[name] = said
        return hashlib.sha256(json.dumps(rows, sort_keys=True).encode()).hexdigest()

    def _key(self, image_id: str) -> str:
        return image_id if image_id in self.by_image else image_id.rsplit("/", 1)[-1]

    def why_none(self, image_id: str) -> str | None:
        """Why an image has no verdict, None where it has one."""
        if self._key(image_id) in self.by_image:
            return None
        return f"not classified: {self.skipped.get(image_id, 'no verdict')}"

    def of(self, sample: Sample, classes: int) -> Verdict:
        """The verdict on an image.

        Raises:
            KeyError: none is there.
        """
        name = sample.image_id
        found = self.by_image[self._key(name)]
        if isinstance(found, Verdict):
            return found
        top1, top5 = found
        return Verdict((sample.label,) if top1 else (classes, sample.label) if top5 else (classes,), None)

    def check(self, samples: Sequence[Sample], where: Path) -> None:
        """Refuse a file that is not of a data set: it lacks images, other than those that could not be classified,
        has one verdict for two of them, or was made when an image was of another class.

        Raises:
            UserError: one of these is the case.
        """
        names = [sample.image_id for sample in samples]
        known = self.by_image.keys() | self.skipped.keys()
        missing = [name for name in names if not {name, name.rsplit("/", 1)[-1]} & known]
        if missing:
            raise UserError(f"{len(missing)} of {len(names)} images have no verdict, {missing[0]} among them",
                            where=where, do=_CLASSIFY)  # fmt: skip
        owners: dict[str, str] = {}
        for name in names:
            key = self._key(name)
            if key in self.by_image and owners.setdefault(key, name) != name:
                raise UserError(f"{owners[key]} and {name} are both {key} there", where=where,
                                expected="a verdict on each", do=_CLASSIFY)  # fmt: skip
        for sample in samples:
            if (label := self.labels.get(self._key(sample.image_id), sample.label)) != sample.label:
                raise UserError(f"{sample.image_id} was of class {label} when it was classified", where=where,
                                expected=f"{sample.label}, as it is now", do=_CLASSIFY)  # fmt: skip


_CLASSIFY = "classify this split with spol.cls.test"


def read(path: Path) -> Verdicts:
    """The verdicts in a file or predictions directory.

    Raises:
        UserError: in none of the three forms.
    """
    if path.is_dir():
        predictions = Predictions.open(path)
        if any(entry.top5 is None for entry in predictions.entries):
            raise UserError("predictions without a classifier", where=path)
        found = {entry.image_id: Verdict(entry.top5, entry.top5_scores) for entry in predictions.entries if entry.top5}
        classifier = predictions.manifest.classifier
        name, crops = classifier.get("name", "unknown"), classifier.get("crops")
        labels = {entry.image_id: entry.label for entry in predictions.entries}
        return Verdicts(found, name, crops, labels, predictions.skipped, predictions.manifest.trained_images)
    if path.suffix == ".npy":
        return Verdicts(read_npy(path), "top1top5.npy")
    return _read_json(path)


def _read_json(path: Path) -> Verdicts:
    content = read_json(path, do="write it with spol.cls.test")
    try:
        if content["format"] != FORMAT:
            raise ValueError(f"format {content['format']}")
        found, labels = {}, {}
        for name, row in content["images"].items():
            top5, scores = tuple(row["top5"]), tuple(float(score) for score in row["scores"])
            right = 1 <= len(top5) <= 5 and len(scores) == len(top5) and np.isfinite(scores).all()
            if not right or any(type(c) is not int or not 0 <= c < MAX_CLASSES for c in top5):
                raise ValueError(f"{name}: {str(row)[:80]}")
            found[name] = Verdict(top5, scores)
            if "label" in row:
                labels[name] = int(row["label"])
        classifier = str(content["classifier"])
        said = ((content.get("run") or {}).get("data") or {}).get("trained_images")
        skipped = {str(name): str(reason) for name, reason in content.get("skipped", {}).items()}
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(f"no classification result ({error})", where=path, do="write it with spol.cls.test") from error
    return Verdicts(found, classifier, 1, labels, skipped, said)


def write_results(
    path: Path,
    verdicts: dict[str, Verdict],
    classifier: str,
    header: dict[str, Any],
    skipped: dict[str, str],
    labels: Mapping[str, int],
) -> None:
    """Write `classification.json`.

    Args:
        path: the file.
        verdicts: by image id.
        classifier: its name.
        header: of the run, for the record.
        skipped: why an image could not be classified, by image id.
        labels: true classes, by image id.
    """
    images = {
        name: {"label": labels[name], "top5": list(verdict.top5), "scores": list(verdict.scores or ())}
        for name, verdict in verdicts.items()
    }
    content = {"format": FORMAT, "classifier": classifier, "run": header, "images": images, "skipped": skipped}
    write_json(path, content)


def write_npy(path: Path, verdicts: dict[str, Verdict], labels: dict[str, int]) -> None:
    """Write `{path: [top-1 is right, top-5 is right]}` as the original's `top1top5.npy`."""
    flags = {
        name: [verdict.top5[0] == labels[name], labels[name] in verdict.top5] for name, verdict in verdicts.items()
    }
    buffer = io.BytesIO()
    np.save(buffer, np.array(flags, dtype=object), allow_pickle=True)
    write_atomically(path, lambda file: file.write(buffer.getbuffer()))


class _StandIn:
    """Stand-in for an array or its type: holds what numpy would rebuild it from, and does nothing with it."""

    def __init__(self, *_: Any):
        self.state: Any = ()

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _DictionaryOnly(pickle.Unpickler):
    """Knows stand-ins for numpy's array and its type, and nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        known = (module in ("numpy.core.multiarray", "numpy._core.multiarray") and name == "_reconstruct") or (
            module == "numpy" and name in ("ndarray", "dtype")
        )
        if not known:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}")
        return _StandIn


def _unpickled(content: bytes) -> Any:
    """Contents of a pickle, after a look at how often it repeats itself.

    A few bytes can nest repetitions of repetitions until Python spends hours on a key's hash; a dictionary of flags
    refers back to next to nothing.
    """
    backward = ("GET", "BINGET", "LONG_BINGET", "DUP")
    if sum(code.name in backward for code, _, _ in pickletools.genops(content)) > MOST_REPETITIONS:
        raise pickle.UnpicklingError("it repeats itself")
    pickles.check(content)
    return _DictionaryOnly(io.BytesIO(content)).load()


def read_npy(path: Path) -> dict[str, tuple[bool, bool]]:
    """The original's `top1top5.npy`.

    Raises:
        UserError: missing, damaged, would run code, or of another form.
    """
    expected = "a pickled dictionary {path: [bool, bool]}"
    need_file(path)
    try:
        with open(path, "rb") as file:
            version = np.lib.format.read_magic(file)
            header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
            shape, _, dtype = header[version](file)
            if shape != () or not dtype.hasobject:
                raise ValueError(f"an array of shape {shape} and type {dtype}")
            content = _unpickled(file.read())
        if isinstance(content, _StandIn):  # version, shape, type, order, values
            content = content.state[4][0] if tuple(content.state[1]) == () else None
        flags = content
        if not isinstance(flags, dict) or not flags:
            raise ValueError(f"a {type(flags).__name__}")
        return {_name(name): _flags(pair) for name, pair in flags.items()}
    except FileNotFoundError as error:
        raise UserError("no such file", where=path, do="write it with spol.cls.test --npy") from error
    except pickle.UnpicklingError as error:
        raise UserError(f"refused: {error}", where=path, expected=expected) from error
    except Exception as error:  # numpy's header is parsed as Python, and the rest can be anything
        raise UserError(f"not the original's top1top5.npy ({error})", where=path, expected=expected) from error


def _name(name: Any) -> str:
    if not isinstance(name, str):
        raise ValueError(f"a key {reprlib.repr(name)}")
    return name


def _flags(pair: Any) -> tuple[bool, bool]:
    if not isinstance(pair, list | tuple) or len(pair) != 2 or not all(isinstance(flag, bool) for flag in pair):
        raise ValueError(f"a value {reprlib.repr(pair)}")
    return pair[0], pair[1]
