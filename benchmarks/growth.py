"""Whether cost per image and memory stay the same from a hundred images to ILSVRC's fifty thousand.

Predictions of N images whose maps, hard links to 64 different ones, are real files; annotations as wsolevaluation's
metadata. Scored, exported (as figures, and as data sets for detectors) and drawn by the commands, each in a process of
its own.

python -m benchmarks.growth
python -m benchmarks.growth 50000
python -m benchmarks.growth 50000 detector      the commands alone whose line holds that word
"""

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks.box_evaluation import maps
from common.datasets import Dataset, DataSource, Sample
from common.datasets.layouts import wsoleval
from common.measuring.geometry import Frame
from common.runs.record import LINES, Prediction, map_path
from common.runs.writer import PredictionsWriter
from common.system.files import write_text

SIZE = (64, 48)
PROTOCOL = "wsoleval-v1"
DISTINCT = 64


def make(folder: Path, count: int) -> Path:
    """Images, metadata and a finished predictions directory of `count` images; gives the latter."""
    root, metadata, run = folder / "images", folder / "metadata", folder / "run"
    rng = np.random.default_rng(0)
    root.mkdir(parents=True)
    pictures = []
    for number in range(DISTINCT):
        pictures.append(root / f"{number}.png")
        Image.fromarray(rng.integers(0, 255, (*SIZE[::-1], 3), dtype=np.uint8)).save(pictures[-1])
    samples = []
    for number in range(count):
        path = root / f"{number % 1000:03d}" / f"{number:06d}.png"
        path.parent.mkdir(exist_ok=True)
        os.link(pictures[number % DISTINCT], path)
        box = np.array([[4, 5, 20 + number % 40, 18 + number % 30]], dtype=np.float64)
        samples.append(Sample(path.relative_to(root).as_posix(), path, number % 1000, box, declared_size=SIZE))
    wsoleval.write(Dataset("wsoleval", "test", tuple(samples), ()), metadata)
    source = DataSource("wsoleval", root, "test", metadata=metadata)
    header = {
        "method": "noise", "architecture": "none", "data": source.described(source.load()), "classifier": None,
        "checkpoint": {"name": "none", "sha256": None}, "frame": "resize 224", "options": {},
    }  # fmt: skip
    writer = PredictionsWriter(run, header)
    writer.close()
    frame, lines, drawn = Frame.squash(SIZE), [], maps()
    for number in range(DISTINCT):
        np.save(folder / f"{number}.npy", np.roll(drawn[number % len(drawn)], number, axis=1))
    for number, sample in enumerate(samples):
        path = map_path(run, sample.image_id)
        path.parent.mkdir(parents=True, exist_ok=True)
        os.link(folder / f"{number % DISTINCT}.npy", path)
        entry = Prediction(sample.image_id, sample.label, SIZE, frame, None, None, None, 0.2)
        lines.append(json.dumps(entry.to_json()) + "\n")
    write_text(run / LINES, "".join(lines))
    PredictionsWriter(run, header).finish()
    return run


def timed(command: list[str]) -> tuple[float, float, float]:
    """Seconds, seconds of the processor, and the greatest memory of one of its processes in MB."""
    start = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", *command], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)} failed with status {status}")
    memory = max(used.ru_maxrss, resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss) / 1024
    return time.perf_counter() - start, used.ru_utime + used.ru_stime, memory


def main() -> None:
    """Print a line for each number of images and command."""
    words = [argument for argument in sys.argv[1:] if not argument.isdigit()]
    for count in [int(argument) for argument in sys.argv[1:] if argument.isdigit()] or [100, 1000, 10_000]:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            run, boxes = str(make(folder, count)), ("--threshold", "0.5", "--format")
            for label, command in (
                ("evaluate", ["common.evaluate", run, "--protocols", PROTOCOL]),
                ("evaluate under every protocol of the frame", ["common.evaluate", run]),
                ("export", ["common.export", run, "--protocols", PROTOCOL, "--out", str(folder / "exported")]),
                ("export for a detector, COCO", ["common.export", run, *boxes, "coco", "--out", str(folder / "coco")]),
                ("export for a detector, YOLO", ["common.export", run, *boxes, "yolo", "--out", str(folder / "yolo")]),
                ("report", ["common.report", run, "--protocols", PROTOCOL, "--out", str(folder / "report.html")]),
            ):
                if not all(word in label for word in words):
                    continue
                seconds, processor, memory = timed(command)
                each = f"{1000 * seconds / count:.1f} ms an image, {1000 * processor / count:.1f} of the processor"
                print(f"{count} images, {label}: {seconds:.1f} s, {each}, {memory:.0f} MB at most", flush=True)


if __name__ == "__main__":
    main()
