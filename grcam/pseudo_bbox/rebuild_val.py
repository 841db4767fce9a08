"""GRCAM's step 2: images put into a folder for each predicted class, the groups that step 3 looks at.

    python -m grcam.pseudo_bbox.rebuild_val --image-path CUB_200_2011/images \\
        --classify-save-path out/class.txt --rebuild-val-save-path out/groups

Links by default. Running it again mends what is there: an image whose class has changed moves.
"""

import os
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

from common.datasets import DataSource
from common.system.errors import UserError, inside, run_command
from common.system.files import holds_files, write_atomically, write_text
from common.system.options import also, parse
from common.system.progress import bar
from grcam import handover

MARK = ".groups"
"""A file that tells a folder of groups from any other."""


@dataclass(frozen=True)
class Rebuild:
    """Sort images into folders by the class that step 1 predicted."""

    rebuild_val_save_path: Annotated[Path, also("out")]
    """Folder for the folders 0, 1, 2 ..."""
    classify_save_path: Path
    """Step 1's class file."""
    image_path: Path | None = None
    """The release's option: the folder that the class file's names are relative to. Without it, --data says where."""
    data: DataSource = DataSource("cub", Path("CUB_200_2011"))  # noqa: RUF009, it is frozen
    """The data set."""
    classes: int | None = None
    """Number of folders, one for each class, empty or not; by default the release's 1000, or as many as the class file
    speaks of."""
    copy: bool = False
    """Copy the images, as released, where a file system has no links."""


def rebuild(options: Rebuild) -> dict[str, Path]:
    """Sort images into folders, and return each one\'s place.

    Raises:
        UserError: an image is missing, a name leaves its folder, or the target holds something else.
    """
    table = handover.read_classes(options.classify_save_path, options.classes)
    count = options.classes or max(1000, 1 + max(rows[0].values[2] for rows in table.rows.values()))
    sources, places, target = {}, {}, options.rebuild_val_save_path
    known = {} if options.image_path else {sample.image_id: sample.path for sample in options.data.load()}
    for name, rows in table.rows.items():
        where: dict[str, Any] = {"where": table.path, "line": rows[0].line}
        places[name] = inside(target / str(rows[0].values[2]), name, **where)
        source = inside(options.image_path, name, **where) if options.image_path else known.get(name)
        if source is None or not source.is_file():
            raise UserError(f"{name} is not in {options.image_path or options.data.root}", **where,
                            do="name the images' folder")  # fmt: skip
        sources[name] = source.resolve()
    _remove_others(target, set(places.values()))
    for number in range(count):
        (target / str(number)).mkdir(parents=True, exist_ok=True)
    for name, place in bar(places.items(), total=len(places), desc="grouping"):
        place.parent.mkdir(parents=True, exist_ok=True)
        _put(sources[name], place, options.copy)
    filled = len({rows[0].values[2] for rows in table.rows.values()})
    print(f"{len(places)} images in {filled} of {count} groups: {target}")
    return places


def _remove_others(target: Path, wanted: set[Path]) -> None:
    """Take away what an earlier run put elsewhere. A folder that this step did not make is left alone, and refused."""
    if holds_files(target) and not (target / MARK).is_file():
        raise UserError("the folder is not empty, and not this step's", where=target, do="name another one")
    write_text(target / MARK, "Made by grcam.pseudo_bbox.rebuild_val, which deletes what it does not know here.\n")
    for path in sorted(target.glob("*/**/*")):
        if (path.is_symlink() or path.is_file()) and path not in wanted:
            path.unlink()


def _put(source: Path, place: Path, copy: bool) -> None:
    if copy:
        if place.is_symlink() or not place.is_file() or place.stat().st_size != source.stat().st_size:
            place.unlink(missing_ok=True)
            with open(source, "rb") as content:
                write_atomically(place, partial(shutil.copyfileobj, content))
        return
    if place.is_symlink() and Path(os.readlink(place)) == source:
        return
    try:
        place.unlink(missing_ok=True)
        place.symlink_to(source)
    except OSError as error:
        raise UserError(f"no link can be made there ({error.strerror})", where=place, do="say --copy") from error


def main() -> None:
    """Run the command line."""
    rebuild(parse(Rebuild, prog="python -m grcam.pseudo_bbox.rebuild_val", description=__doc__))


if __name__ == "__main__":
    run_command(main)
