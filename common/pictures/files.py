"""Recognition of the images in a folder: one rule for every reader of folders.

An image is a file whose ending, in any case, belongs to a format that `images.read_rgb` reads. What operating systems,
editors and file servers leave beside images is never looked into: hidden files and folders (`._x.jpg`, `.DS_Store`,
`.ipynb_checkpoints`) and the names in `LEFT_BEHIND`. Whatever is passed over is counted by its kind.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from PIL import Image

from common.pictures.images import formats
from common.system.errors import printable

LEFT_BEHIND = frozenset((
    "__macosx", "__pycache__", "@eadir", "#recycle", "#snapshot", "@tmp", "@sharebin", "@recycle", "@recently-snapshot",
    "@__thumb", "$recycle.bin", "recycler", "lost+found", "system volume information", "network trash folder",
    "temporary items", "thumbs.db", "ehthumbs.db", "desktop.ini", "icon\r",
))  # fmt: skip
"""Names, in lower case, that macOS, Windows, Linux, Python, Synology and QNAP give to what is no data."""


@lru_cache(maxsize=1)
def image_endings() -> frozenset[str]:
    """The endings of image files, in lower case with their dot."""
    Image.init()
    return frozenset(ending for ending, name in Image.EXTENSION.items() if name in formats())


def is_left_behind(name: str) -> bool:
    """Whether a file or folder is hidden, or one of `LEFT_BEHIND`."""
    return name.startswith(".") or name.lower() in LEFT_BEHIND


def is_image_name(name: str) -> bool:
    """Whether a name has an image's ending."""
    return Path(name).suffix.lower() in image_endings()


def data_folders(folder: Path, passed_over: Counter[str]) -> list[Path]:
    """The folders in a folder, sorted, as classes or splits are; whatever else is there is added to `passed_over`."""
    found = []
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not is_left_behind(path.name):
            found.append(path)
        else:
            passed_over[kind_of(path)] += 1
    return found


def images_in(paths: Iterable[Path], passed_over: Counter[str]) -> Iterator[Path]:
    """The images among the members of one folder, in their order; the others are added to `passed_over`."""
    for path in paths:
        if is_left_behind(path.name) or not is_image_name(path.name) or path.is_dir():
            passed_over[kind_of(path)] += 1
        else:
            yield path


def images_below(folder: Path, passed_over: Counter[str]) -> Iterator[Path]:
    """The images in a folder and the folders in it, and links to folders, which are not looked into, sorted.

    Args:
        folder: where to look.
        passed_over: what is neither is added, by `kind_of`.
    """
    paths, folders = [], [folder]
    while folders:
        for path in folders.pop().iterdir():
            if is_left_behind(path.name):
                passed_over[kind_of(path)] += 1
            elif path.is_dir() and not path.is_symlink():
                folders.append(path)
            elif path.is_dir() or is_image_name(path.name):
                paths.append(path)
            else:
                passed_over[kind_of(path)] += 1
    yield from sorted(paths)


def kind_of(path: Path) -> str:
    """Kind of a file passed over, as it is counted: `._*`, the name of what is left behind, `*.txt`, or a folder."""
    name = printable(path.name)[:40]
    if name.startswith("._"):
        return "._*"
    if is_left_behind(name) or not path.suffix:
        return f"{name}/" if path.is_dir() else name
    return "folders" if path.is_dir() else f"*{printable(path.suffix.lower())[:20]}"


def passed_over_text(passed_over: Counter[str] | dict[str, int]) -> str:
    """`2 ._*, 1 @eaDir/`: the most frequent first, ten at most and the rest as a number."""
    ordered = sorted(passed_over.items(), key=lambda item: (-item[1], item[0]))
    named = [f"{count} {kind}" for kind, count in ordered[:10]]
    if rest := sum(count for _, count in ordered[10:]):
        named.append(f"{rest} others")
    return ", ".join(named)
