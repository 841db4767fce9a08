"""Localize the objects on photographs, by any method: an overlay for each, and all boxes in one table.

    wsol localize bird.jpg other.png --method bas --checkpoint runs/bas/final.pth --out found
    wsol localize bird.jpg --method dgl --layer 5 --checkpoint imagenet:mobilenet_v1 --out found
    wsol localize bird.jpg --arch timm:resnet18 --checkpoint mine.pth --class-names names.txt --out found

Photographs are turned upright by their EXIF tag; boxes are in pixels of the upright photograph.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from common.runs.photographs import Found as Drawn
from common.runs.photographs import check_photographs, localize_photographs
from common.system.errors import run_command
from common.system.options import also, parse
from wsol.loading import load


@dataclass(frozen=True)
class Localize:
    """Localize the objects on photographs."""

    photographs: tyro.conf.Positional[tuple[Path, ...]]
    """Image files."""
    checkpoint: Annotated[str, also("load", "snapshot")]
    """A final.pth of a training, an authors' file, a TensorFlow checkpoint, a plain state dict together with --arch,
    imagenet:<arch>, timm:<name> or torchvision:<name>."""
    out: Path
    """Folder for <name>.jpg overlays and boxes.jsonl."""
    method: Literal["cam", "bas", "spol", "dgl", "grcam", "grad-cam"] | None = None
    """The method; what the checkpoint was trained for if omitted, and CAM of a classifier."""
    layer: str | None = None
    """Layer of DGL and Grad-CAM: a module's name, or a number counted from the last map down; 0, the last, if omitted,
    of a TensorFlow checkpoint 2, as DGL was released."""
    arch: str | None = None
    """Architecture of a file that does not say: timm:<name>, torchvision:<name> or yourmodule:build of a state dict."""
    class_names: Path | None = None
    """File with a class name a line, or JSON of names by number, where the checkpoint does not say."""
    classifier: str | None = None
    """Classifier beside SPOL: a final.pth of stage cls, or imagenet:<arch>."""
    label: str | None = None
    """Class whose map is wanted, by name or number; the method's own choice if omitted."""
    variant: Literal["CUB", "ILSVRC", "EXT"] | None = None
    """Variant of an authors' BAS file; recognized if omitted."""
    recipe: Literal["cub", "imagenet"] | None = None
    """Data whose released threshold SPOL takes; that of the checkpoint's own training if omitted, and cub's where it
    does not say."""
    top_k: int | None = None
    """Number of best classes whose maps BAS averages; as released if omitted."""
    frame: Literal["crop", "squash"] = "squash"
    """squash: the whole photograph. crop: its centre, as the papers measure."""
    threshold: float | None = None
    """Threshold of the box on the map; the method's own if omitted."""
    input_size: int | None = None
    """Side of the input of a classifier of your own; the library's if omitted."""
    mean: tuple[float, float, float] | None = None
    """RGB mean that its images in [0, 1] are normalized with; the library's if omitted."""
    std: tuple[float, float, float] | None = None
    """RGB deviation that its images are normalized with; the library's if omitted."""
    sigmoid: bool = False
    """Probabilities of a classifier of your own are each score's sigmoid, as where it gives several labels at once."""
    framework: Literal["auto", "torch", "tensorflow"] = "auto"
    """Framework, where both can take the checkpoint."""
    device: str = "auto"
    """PyTorch device: auto, cpu, cuda or cuda:N."""
    overwrite: bool = False
    """Replace earlier results."""


def localize(options: Localize) -> list[dict[str, Any]]:
    """Write the overlays and `boxes.jsonl`, and return its records; see `common.runs.photographs`.

    Raises:
        UserError: a checkpoint that does not fit, no photograph that can be read, or results that stand there already.
    """
    check_photographs(options.photographs, options.out, options.overwrite)
    named = {name: value for name, value in vars(options).items() if name not in _OF_THE_COMMAND}
    localizer = load(**named)
    label = _label(options.label, localizer.class_names or ())
    localizer.label_number(label)

    def find(image: np.ndarray) -> Drawn:
        found = localizer(image, label)
        return Drawn(found.frame, found.map, found.rule.of(found.map), found.threshold, found.classified())

    return localize_photographs(options.photographs, options.out, options.overwrite, localizer.open, find)


def _label(text: str | None, names: Sequence[str]) -> str | int | None:
    """A class's name, or where no class is called so its number."""
    if text is None or not text.isdecimal():
        return text
    if text in names and names.index(text) != int(text):
        print(f"note: class {names.index(text)}, which is called {text}, is taken; class {text} is called "
              f"{names[int(text)] if int(text) < len(names) else 'nothing'}")  # fmt: skip
    return text if text in names else int(text)


_OF_THE_COMMAND = ("photographs", "out", "label", "overwrite")


def main() -> None:
    """Run the command line."""
    localize(parse(Localize, prog="wsol localize", description=__doc__))


if __name__ == "__main__":
    run_command(main)
