"""Five photographs that installed Python packages ship, laid out as ILSVRC's validation split.

They are no benchmark; they show what maps look like with a network's own ImageNet head. Classes are ImageNet's nearest
ones, boxes were drawn for this project. scikit-image and matplotlib have the photographs, timm the list of classes.
"""

import importlib.util
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from common.system.errors import UserError
from common.system.files import write_atomically, write_text


@dataclass(frozen=True)
class Photograph:
    """One photograph, and where a package ships it.

    Attributes:
        package: that ships it.
        path: within the package.
        wnid: its class.
        box: x0, y0, x1, y1 in pixels, around the whole visible object.
    """

    package: str
    path: str
    wnid: str
    box: tuple[int, int, int, int]


PHOTOGRAPHS = (
    Photograph("skimage", "data/chelsea.png", "n02123045", (0, 0, 385, 300)),  # tabby
    Photograph("skimage", "data/coffee.png", "n07920052", (172, 16, 408, 305)),  # espresso: the cup
    Photograph("skimage", "data/rocket.jpg", "n03773504", (308, 125, 338, 408)),  # missile
    Photograph("skimage", "data/motorcycle_left.png", "n03785016", (94, 72, 686, 450)),  # moped
    Photograph("matplotlib", "mpl-data/sample_data/grace_hopper.jpg", "n03763968", (18, 22, 512, 600)),  # uniform
)
CLASSES = ("timm", "data/_info/imagenet_synsets.txt")
WORDS = ("timm", "data/_info/imagenet_synset_to_lemma.txt")


def gather(root: Path) -> None:
    """Copy the photographs to `root` and write their classes and boxes; nothing where the folder is there.

    Raises:
        UserError: a package or its file is missing.
    """
    if root.exists():
        return
    sources = [_shipped(photograph.package, photograph.path) for photograph in PHOTOGRAPHS]
    words = dict(line.split("\t", 1) for line in _shipped(*WORDS).read_text(encoding="utf-8").splitlines())
    wnids = _shipped(*CLASSES).read_text(encoding="utf-8").split()
    for photograph, source in zip(PHOTOGRAPHS, sources, strict=True):
        target = root / "val" / photograph.wnid / source.name
        with open(source, "rb") as image:
            write_atomically(target, partial(shutil.copyfileobj, image))
        write_text(root / "Annotations/CLS-LOC/val" / f"{source.stem}.xml", _annotation(photograph))
    # Last, since without it the folder is no data set.
    write_text(root / "LOC_synset_mapping.txt", "".join(f"{wnid} {words[wnid]}\n" for wnid in wnids))


def _annotation(photograph: Photograph) -> str:
    corners = zip(("xmin", "ymin", "xmax", "ymax"), photograph.box, strict=True)
    box = "".join(f"<{name}>{value}</{name}>" for name, value in corners)
    return f"<annotation><object><name>{photograph.wnid}</name><bndbox>{box}</bndbox></object></annotation>\n"


def _shipped(package: str, path: str) -> Path:
    """A file of an installed package, which is not imported: timm would bring PyTorch with it."""
    found = importlib.util.find_spec(package)
    folders = found.submodule_search_locations if found else None
    file = Path(folders[0]) / path if folders else None
    if file is None or not file.is_file():
        raise UserError(f"{package} with {path} is not installed", do="make the environment `all`, which has it")
    return file
