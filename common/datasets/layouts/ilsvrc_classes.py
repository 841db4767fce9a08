"""ILSVRC's classes: their numbering, their words, and which one a validation image shows.

Classes are numbered by their sorted wnid; by `synset1.txt` in the order of its lines, as GRCAM numbers them, which is
the same unless somebody changed the file. The list of wnids is taken from the first of: `LOC_synset_mapping.txt`
(Kaggle), `synset1.txt` (GRCAM), the devkit's `map_clsloc.txt`, the folders of `train/`, the devkit's `meta.mat`.
"""

import os
import re
from collections import Counter
from pathlib import Path

from common.datasets.files.mat_files import fields, read_mat
from common.datasets.files.mat_files import number as mat_number
from common.datasets.files.mat_files import text as mat_text
from common.datasets.files.text import csv_rows, lines
from common.datasets.sample import OnProblem
from common.pictures.files import data_folders
from common.system.errors import UserError


def class_wnids(root: Path) -> tuple[str, ...]:
    """The wnids in the order by which classes are numbered.

    Raises:
        UserError: no source of them is there.
    """
    for name in ("LOC_synset_mapping.txt", "synset1.txt"):
        if os.path.lexists(root / name):
            listed = _listed_wnids(root / name)
            return listed if name == "synset1.txt" else tuple(sorted(listed))
    if mapping := devkit_file(root, "map_clsloc.txt"):
        return tuple(sorted(_listed_wnids(mapping)))
    train = image_folder(root, "train")
    if train is not None:
        wnids = [folder.name for folder in data_folders(train, Counter())]
        if wnids:
            return tuple(wnids)
    if meta := devkit_file(root, "meta.mat"):
        return tuple(sorted(_meta_wnids(meta).values()))
    raise UserError(
        "no list of classes is there",
        where=root,
        expected="train/ with a folder for each class, LOC_synset_mapping.txt, synset1.txt, or the devkit",
        do="name the folder that holds train/ or val/ with --data.root",
    )


def _listed_wnids(path: Path) -> tuple[str, ...]:
    """The first words of a file's lines; training images lie in folders of these names, so each must be a name, though
    of any length, and stand once.
    """
    seen: dict[str, int] = {}
    for line, text in lines(path):
        wnid = text.split()[0]
        if wnid in (".", "..") or "/" in wnid:
            raise UserError(f"the class {wnid!r} is no folder's name", where=path, line=line, expected="a wnid")
        if seen.setdefault(wnid, line) != line:
            raise UserError(f"{wnid} stands here twice, first in line {seen[wnid]}", where=path, line=line,
                            do="remove one of the lines")  # fmt: skip
    return tuple(seen)


def class_words(root: Path) -> dict[str, str]:
    """Each wnid's names, such as "tench, Tinca tinca"; empty where no file holds them."""
    for name in ("LOC_synset_mapping.txt", "synset1.txt"):
        if os.path.lexists(root / name):
            rows = (text.strip().partition(" ") for _, text in lines(root / name))
            return {wnid: words for wnid, _, words in rows}
    return {}


def image_folder(root: Path, split: str) -> Path | None:
    """The folder of a split's images, in any of the layouts; None where there is none."""
    for candidate in (f"ILSVRC/Data/CLS-LOC/{split}", f"Data/CLS-LOC/{split}", split):
        if (root / candidate).is_dir():
            return root / candidate
    return None


def devkit_file(root: Path, pattern: str) -> Path | None:
    """The devkit's file of this name, the last where several match; None where there is none."""
    found = sorted(root.glob(f"ILSVRC*_devkit*/data/{pattern}")) + sorted(root.glob(f"ILSVRC*_devkit*/{pattern}"))
    return found[-1] if found else None


def validation_classes(root: Path, on_problem: OnProblem) -> dict[str, str]:
    """File stem to wnid, from Kaggle's CSV or the devkit; empty where neither is there."""
    solution = root / "LOC_val_solution.csv"
    if os.path.lexists(solution):
        return _solution(solution, on_problem)
    truth = devkit_file(root, "*validation_ground_truth.txt")
    mapping = devkit_file(root, "map_clsloc.txt") or devkit_file(root, "meta.mat")
    if truth and mapping:
        wnid_of = _meta_wnids(mapping) if mapping.suffix == ".mat" else _mapped_wnids(mapping)
        classes = {}
        for index, (line, text) in enumerate(lines(truth), start=1):
            number = text.strip()
            if number not in wnid_of:
                raise UserError(f"class number {number!r} is not in {mapping.name}", where=truth, line=line)
            classes[f"ILSVRC2012_val_{index:08d}"] = wnid_of[number]
        return classes
    return {}


def _mapped_wnids(path: Path) -> dict[str, str]:
    """The wnid of each class number of the devkit's `map_clsloc.txt`."""
    rows = (text.split() for _, text in lines(path))
    return {row[1]: row[0] for row in rows if len(row) > 1}


def _meta_wnids(path: Path) -> dict[str, str]:
    """The wnid of each class number of the devkit's `meta.mat`, which also holds WordNet's inner nodes."""
    columns = fields(read_mat(path, "synsets")["synsets"], "ILSVRC2012_ID", "WNID", "num_children", where=path)
    found: dict[str, str] = {}
    for entry, (number, wnid, children) in enumerate(zip(*columns, strict=True), start=1):
        if mat_number(children, where=path, what=f"num_children of entry {entry}") == 0:
            key = f"{mat_number(number, where=path, what=f'ILSVRC2012_ID of entry {entry}'):g}"
            name = mat_text(wnid, where=path, what=f"WNID of entry {entry}")
            if key in found or name in found.values() or re.fullmatch(r"n\d{8}", name) is None:
                raise UserError(f"the class {key}, {name}, stands here twice or is no wnid", where=path)
            found[key] = name
    if not found:
        raise UserError("no synset without children", where=path)
    return found


def _solution(path: Path, on_problem: OnProblem) -> dict[str, str]:
    """File stem to wnid from `ImageId,PredictionString`, whose second cell begins with the wnid."""
    found: dict[str, str] = {}
    for line, row in csv_rows(path):
        words = row[1].split() if len(row) == 2 else []
        if row[0] == "ImageId":
            continue
        if not words or row[0] in found:
            what = f"{row[0]} stands here twice" if row[0] in found else f"{len(row)} cells, and no class in the second"
            on_problem(UserError(what, where=path, line=line, expected="ImageId,PredictionString"))
            continue
        found[row[0]] = words[0]
    return found
