"""A data set of three classes in CUB's own layout, small enough to be made for each test."""

from pathlib import Path

from PIL import Image

from tests import fill

CLASSES = ("001.Red_Bird", "002.Blue_Bird", "003.Grey_Bird")


def make(root: Path, height: int = 60, width: int = 80, train: int = 2, test: int = 2) -> Path:
    """Write images, masks and the five lists; image k of a class has the box `k 2 30 40`, x y width height.

    The first `train` images of each class are for training, the others for testing.
    """
    rows = [(label, number) for label in range(len(CLASSES)) for number in range(train + test)]
    lists: dict[str, list[str]] = {"images": [], "image_class_labels": [], "train_test_split": [], "bounding_boxes": []}
    for line, (label, number) in enumerate(rows, start=1):
        image_id = f"{CLASSES[label]}/bird_{number}.png"
        path = root / "images" / image_id
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(fill.image(height, width, line)).save(path)
        mask = root / "segmentations" / image_id
        mask.parent.mkdir(parents=True, exist_ok=True)
        shape = Image.new("L", (width, height))
        shape.paste(255, (number, 2, number + 30, 42))
        shape.save(mask)
        lists["images"].append(f"{line} {image_id}")
        lists["image_class_labels"].append(f"{line} {label + 1}")
        lists["train_test_split"].append(f"{line} {int(number < train)}")
        lists["bounding_boxes"].append(f"{line} {number}.0 2.0 30.0 40.0")
    lists["classes"] = [f"{number} {name}" for number, name in enumerate(CLASSES, start=1)]
    for name, lines in lists.items():
        (root / f"{name}.txt").write_text("".join(f"{line}\n" for line in lines))
    return root
