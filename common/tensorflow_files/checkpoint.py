"""Checkpoints of DGL's and GRCAM's networks: TensorFlow's own, tensorpack's `.npz`, TF-Slim's, safetensors; by name.

Nothing here unpickles, or needs TensorFlow. Names are compared without `:0`.
"""

import glob
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from google.protobuf import text_format

from common.datasets.sample import MAX_CLASSES
from common.system.archives import put_arrays
from common.system.errors import UserError
from common.system.files import need_file, sha256, write_atomically
from common.system.wording import number_of, some
from common.tensorflow_files import bundle
from common.tensorflow_files.messages import State
from common.weights import load_mobilenet_v1, read_safetensors

IMAGENET = "imagenet:mobilenetv1"
"""Word in place of a path: Google's MobileNetV1 with its own ImageNet head."""

_CLASSIFIERS = {
    "vgg": ("linear", "linearcub", "linear_cub"),
    "resnet50": ("linear", "linearcub", "linear_cub"),
    "resnet50se": ("linear", "linearcub", "linear_cub"),
    "inceptionv3": ("InceptionV3/Logits/Conv2d_1c_1x1_1000", "InceptionV3/Logits/Conv2d_1c_1x1_200"),
    "mobilenetv1": ("MobilenetV1/Logits/Conv2d_1c_1x1",),
}
"""The linear layer's names in the release: training and testing, ImageNet and CUB differ."""
_NOT_OURS = re.compile(r"(^|/)(Momentum|global_step|learning_rate|ExponentialMovingAverage)(_\d+)?$|^EMA/")
_SHOWN = 6
_LARGEST_STATE = 2**20
MOST_UNPACKED = 100
"""Times its own size, or a megabyte, that an .npz may unpack to."""


class Head(NamedTuple):
    """A checkpoint's linear layer: its scope and class count; whether Inception's last convolutions have batch norm."""

    classifier: str
    num_classes: int
    batch_norm: bool


@dataclass(frozen=True)
class Checkpoint:
    """A file of named arrays.

    Attributes:
        path: as it was found; for a TensorFlow checkpoint its prefix. None for `IMAGENET`.
        name: for messages and manifests.
        shapes: by name.
        read: an array by its name.
        exact: whether an array of another shape is refused whatever its number of elements, as TensorFlow refuses it.
    """

    path: Path | None
    name: str
    shapes: Mapping[str, tuple[int, ...]]
    read: Callable[[str], np.ndarray]
    exact: bool = False

    def head(self, arch: str) -> Head:
        """The linear layer that is in the file, under any of the release's names.

        Raises:
            UserError: there is none of this architecture, or several.
        """
        found = {name: kernel for name in _CLASSIFIERS[arch] if (kernel := self._kernel(name)) is not None}
        if len(found) != 1:
            raise UserError(
                f"{len(found)} of the classifiers that {arch} may have are in the file", where=self.name,
                expected=f"one of {', '.join(_CLASSIFIERS[arch])}",
                do="check the architecture" if not found else "delete the others",
            )  # fmt: skip
        batch_norm = arch == "inceptionv3" and "InceptionV3/Logits/add1/BatchNorm/beta" in self.shapes
        ((classifier, kernel),) = found.items()
        shape = self.shapes[kernel]
        if not shape or not 1 <= shape[-1] <= MAX_CLASSES:
            raise UserError(f"{classifier} has shape {shape}", where=self.name, expected="an output for each class")
        return Head(classifier, shape[-1], batch_norm)

    def _kernel(self, classifier: str) -> str | None:
        return next(
            (f"{classifier}/{leaf}" for leaf in ("W", "weights") if f"{classifier}/{leaf}" in self.shapes), None
        )

    def fingerprint(self) -> str:
        """sha256 of the file with the values, for a manifest."""
        if self.path is None:
            return "-"
        data = [self.path] if self.path.is_file() else _parts(self.path)
        return sha256(data[0]) if len(data) == 1 else "-".join(sha256(part) for part in data)


def open_checkpoint(path: Path | str) -> Checkpoint:
    """Open a checkpoint by whatever names it.

    Args:
        path: a TensorFlow checkpoint's prefix, one of its files, or a folder with a file `checkpoint` that names the
            latest; a checkpoint of one file, as TF-Slim's `inception_v3.ckpt` of 2016; a `.npz` or `.safetensors`; or
            `IMAGENET`.

    Raises:
        UserError: there is none, it can't be read, or it is a file that would have to be unpickled.
    """
    if str(path) == IMAGENET:
        return _imagenet()
    path = Path(path)
    if not path.is_dir():
        need_file(path)
    if path.suffix == ".npz" and path.is_file():
        return _from_npz(path)
    if path.suffix == ".safetensors" and path.is_file():
        return _from_safetensors(path)
    if path.suffix in (".npy", ".pkl", ".pickle", ".pth", ".pt") and path.is_file():
        raise UserError(
            "this file would have to be unpickled, which can run code", where=path,
            expected="a TensorFlow checkpoint, .npz or .safetensors", do="convert it where it comes from",
        )  # fmt: skip
    return _from_tensorflow(path)


def _imagenet() -> Checkpoint:
    """Google's MobileNetV1; the unused class 0 of its head is dropped."""
    arrays = dict(load_mobilenet_v1())
    scope = "MobilenetV1/Logits/Conv2d_1c_1x1"
    for leaf in ("weights", "biases"):
        arrays[f"{scope}/{leaf}"] = arrays[f"{scope}/{leaf}"][..., 1:]
    return _from_arrays(None, IMAGENET, arrays)


def _from_arrays(path: Path | None, name: str, arrays: Mapping[str, np.ndarray]) -> Checkpoint:
    return Checkpoint(path, name, {key: tuple(value.shape) for key, value in arrays.items()}, lambda key: arrays[key])


def _from_npz(path: Path) -> Checkpoint:
    try:
        with np.load(path, allow_pickle=False) as file:
            unpacked = sum(member.file_size for member in file.zip.infolist())
            if unpacked > MOST_UNPACKED * max(path.stat().st_size, 2**20):
                raise ValueError(f"it unpacks to {unpacked:,} bytes")
            if len(set(file.zip.namelist())) < len(file.zip.namelist()):
                raise ValueError("a name stands there twice")
            arrays = {name.removesuffix(":0"): file[name] for name in file.files}
        if odd := [name for name, value in arrays.items() if not isinstance(value, np.ndarray)]:
            raise ValueError(f"{odd[0]} is no array")
    except (OSError, ValueError, EOFError, KeyError) as error:
        raise UserError(f"not a readable .npz of plain arrays ({error})", where=path) from error
    except Exception as error:  # a damaged archive fails in many ways, zipfile.BadZipFile and zlib.error among them
        raise UserError(f"a damaged .npz ({type(error).__name__}: {error})", where=path) from error
    return _from_arrays(path, path.name, arrays)


def _from_safetensors(path: Path) -> Checkpoint:
    return _from_arrays(path, path.name, read_safetensors(path))


def _from_tensorflow(path: Path) -> Checkpoint:
    single = path.suffix != ".index" and bundle.is_single_file(path)
    prefix = path if single else _prefix(path)
    for part in _parts(prefix):
        need_file(part)
    try:
        arrays = bundle.read_single_file(path) if single else bundle.read_index(prefix)
    except (OSError, ValueError, OverflowError) as error:
        raise UserError(f"not a readable TensorFlow checkpoint ({str(error)[:200]})", where=prefix) from error

    def read(name: str) -> np.ndarray:
        if not arrays[name].is_numeric:
            raise UserError(f"{name} holds other things than numbers", where=prefix)
        try:
            return bundle.read_values(arrays[name])
        except (OSError, ValueError) as error:
            raise UserError(f"{name} can't be read ({str(error)[:200]})", where=prefix) from error

    return Checkpoint(prefix, prefix.name, {name: array.shape for name, array in arrays.items()}, read, exact=True)


def _parts(prefix: Path) -> list[Path]:
    """The files that hold the values of a TensorFlow checkpoint."""
    return sorted(prefix.parent.glob(f"{glob.escape(prefix.name)}.data-*"))


def _prefix(path: Path) -> Path:
    if path.is_dir():
        return _latest(path)
    text = re.sub(r"\.(index|meta|data-\d{5}-of-\d{5})$", "", str(path))
    need_file(f"{text}.index")
    if not Path(f"{text}.index").is_file():
        raise UserError("no such checkpoint", where=path,
                        expected=f"{Path(text).name}.index and .data-*, a .npz or a .safetensors")  # fmt: skip
    return Path(text)


def _latest(folder: Path) -> Path:
    """The prefix that a folder's state file names. It can name any path; what is meant lies beside it."""
    need_file(folder / "checkpoint")
    try:
        with open(folder / "checkpoint", encoding="utf-8") as file:
            stated = folder / text_format.Parse(file.read(_LARGEST_STATE), State()).model_checkpoint_path
        name = stated.name if stated.parent == folder or stated.parent.resolve() == folder.resolve() else ""
    except (OSError, ValueError, text_format.ParseError):
        name = ""
    need_file(folder / f"{name}.index")
    if name in ("", "..") or not (folder / f"{name}.index").is_file():
        raise UserError("the folder's file `checkpoint` names none that is there", where=folder)
    return folder / name


def values_for(shapes: Mapping[str, tuple[int, ...]], checkpoint: Checkpoint) -> dict[str, np.ndarray]:
    """float32 arrays for every variable from a checkpoint that must have them all; what else it has is left aside.

    Args:
        shapes: of the variables, by name.
        checkpoint: to take them from.

    Raises:
        UserError: variables are missing or of another shape, by name.
    """
    values, missing = match(shapes, checkpoint)
    if missing:
        extra = [name for name in checkpoint.shapes if name not in shapes and not _NOT_OURS.search(name)]
        raise UserError(
            f"{len(missing)} of {len(shapes)} variables are not in the checkpoint: {some(missing)}; "
            f"it has {number_of(len(extra), 'other', 'others')}{': ' if extra else ''}{some(extra)}",
            where=checkpoint.name, do="check the architecture",
        )  # fmt: skip
    return values


def match(
    shapes: Mapping[str, tuple[int, ...]], checkpoint: Checkpoint, fresh: Iterable[str] = ()
) -> tuple[dict[str, np.ndarray], list[str]]:
    """Arrays for the variables that a checkpoint has, and the names of those that it has not.

    Args:
        shapes: of the variables, by name.
        checkpoint: to take them from.
        fresh: scopes, such as a new linear layer's, whose variables stay as they are where the shapes differ.

    Raises:
        UserError: a variable of another number of elements. Of another shape only, TensorFlow's checkpoints are
            refused, and arrays of other files reshaped, as tensorpack does, which a note says.
    """
    values, missing, reshaped = {}, [], []
    for name, shape in shapes.items():
        found = checkpoint.shapes.get(name)
        if found is None:
            missing.append(name)
        elif _same(found, shape) or (not checkpoint.exact and np.prod(found) == np.prod(shape)):
            values[name] = _numbers(checkpoint, name).reshape(shape)
            if not _same(found, shape):
                reshaped.append(f"{name} from {found} to {shape}")
        elif any(name.startswith(f"{scope}/") for scope in fresh):
            missing.append(name)
        else:
            raise UserError(
                f"{name} has shape {found}", where=checkpoint.name, expected=str(shape),
                do="check the architecture and the class count",
            )  # fmt: skip
    if reshaped:
        print(f"note: {checkpoint.name}: {len(reshaped)} of {len(values)} arrays are reshaped: {some(reshaped)}")
    return values, missing


def _same(some: tuple[int, ...], others: tuple[int, ...]) -> bool:
    """Whether shapes are equal but for sides of one: a 1 x 1 convolution's kernel is a linear layer's."""
    return [side for side in some if side != 1] == [side for side in others if side != 1]


def _numbers(checkpoint: Checkpoint, name: str) -> np.ndarray:
    """An array as float32.

    Raises:
        UserError: it is text or complex, or holds NaN or infinity.
    """
    found = checkpoint.read(name)
    if found.dtype.kind not in "fiub" or not np.isfinite(found).all():
        raise UserError(f"{name} holds other things than finite numbers", where=checkpoint.name,
                        do="take another checkpoint")  # fmt: skip
    return np.asarray(found, np.float32)


def write_npz(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    """Write named arrays as tensorpack's `.npz`, whole or not at all."""
    named = {name.replace(":0", ""): value for name, value in arrays.items()}
    write_atomically(path, lambda file: put_arrays(file, named))
