"""Record beside a TensorFlow checkpoint that was made of another framework's: its classes, input size, and training.

The checkpoint itself holds arrays alone.
"""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from common.measuring.geometry import LARGEST_INPUT, SIDE
from common.system.errors import UserError
from common.system.files import read_json, write_json

ENDING = ".converted.json"
"""Ending of the record's name, after the checkpoint's whole one."""


@dataclass(frozen=True)
class Converted:
    """Facts about a checkpoint that its arrays do not tell.

    Attributes:
        class_names: in the order of its outputs; None where unknown.
        input_size: side of the images that it was trained on, in pixels.
        training: seed and recipe, as `common.runs.provenance.training_of` tells them; None where unknown.
    """

    class_names: tuple[str, ...] | None = None
    input_size: int = SIDE
    training: dict[str, Any] | None = None


def write(checkpoint: Path, record: Converted) -> None:
    """Put the record beside a checkpoint."""
    write_json(_place(checkpoint), asdict(record))


def read(checkpoint: Path | str) -> Converted:
    """The record of a checkpoint; of any without one, that nothing is known and `SIDE` taken.

    Raises:
        UserError: a record that can't be read.
    """
    path = _place(Path(checkpoint))
    if str(checkpoint).startswith("imagenet:") or not path.is_file():
        return Converted()
    stored = read_json(path)
    told: dict[str, Any] = stored if isinstance(stored, dict) else {}
    names, side, training = told.get("class_names"), told.get("input_size"), told.get("training")
    named = names is None or (isinstance(names, list) and all(isinstance(name, str) for name in names))
    if not named or type(side) is not int or not 1 <= side <= LARGEST_INPUT or not isinstance(training, dict | None):
        raise UserError("not the record of a converted checkpoint", where=path,
                        expected="class_names and input_size", do="convert it again")  # fmt: skip
    return Converted(None if names is None else tuple(names), side, training)


def _place(checkpoint: Path) -> Path:
    return checkpoint.with_name(f"{checkpoint.name}{ENDING}")
