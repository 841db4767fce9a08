"""The inputs of the released scripts that numbers were recorded from, laid out as those scripts want them."""

from pathlib import Path

import numpy as np

GOLDEN = Path(__file__).resolve().parents[1] / "golden/grcam"
NAME = "ILSVRC2012_val_{:08d}"
WNIDS = [f"n{1440764 + number:08d}" for number in range(1000)]


def golden(name: str) -> dict[str, np.ndarray]:
    with np.load(GOLDEN / f"{name}.npz", allow_pickle=False) as arrays:
        return dict(arrays)


def lay_out(folder: Path, xml: list[str], jpegs: list[bytes], wnids: list[str] | None = None) -> list[str]:
    """Images, annotations and synset1.txt in `folder`; gives the command's options for them."""
    names = sorted({text.split("<name>")[1].split("</name>")[0] for text in xml})
    for sub in ("val", "val_xml"):
        (folder / sub).mkdir(parents=True)
    for number, (text, content) in enumerate(zip(xml, jpegs, strict=True), start=1):
        (folder / "val" / f"{NAME.format(number)}.JPEG").write_bytes(content)
        (folder / "val_xml" / f"{NAME.format(number)}.xml").write_text(text)
    (folder / "synset1.txt").write_text("\n".join(f"{wnid} words" for wnid in wnids or names))
    return ["--image-path", f"{folder}/val/", "--annotation-path", f"{folder}/val_xml/",
            "--synset", f"{folder}/synset1.txt"]  # fmt: skip


def write_files(folder: Path, recorded: dict[str, np.ndarray]) -> None:
    """The recorded text files under the names that run_test.sh gives them."""
    (folder / "boxes").mkdir(parents=True)
    for key in recorded:
        if key.startswith("file_box_"):
            (folder / "boxes" / f"{key.removeprefix('file_box_')}.txt").write_bytes(recorded[key].tobytes())
    (folder / "class.txt").write_bytes(recorded["file_cls"].tobytes())
    (folder / "pseudo.txt").write_bytes(recorded["file_pseudo"].tobytes())


def wnids(recorded: dict[str, np.ndarray]) -> list[str]:
    """synset1.txt, which is not recorded: the annotations' names stand where the labels say, others between."""
    found: list[str | None] = [None] * 1000
    for label, text in zip(recorded["labels"], recorded["xml"], strict=True):
        found[label] = text.split("<name>")[1].split("</name>")[0]
    for number, wnid in enumerate(found):
        if wnid is None:
            before = next((name for name in reversed(found[:number]) if name), "m")
            found[number] = f"{before}_{number:04d}"
    return found
