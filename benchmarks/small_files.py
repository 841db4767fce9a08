"""Many small files or few shards: what reading images from a plain folder costs, beside sequential tar shards.

    python -m benchmarks.small_files

The shards are read as webdataset reads them, front to back by Python's tarfile. Cold reads come after the kernel was
asked to forget the files' pages. Decoding, which is the same for both, stands beside it.
"""

import os
import tarfile
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tyro


@dataclass(frozen=True)
class Benchmark:
    """Compare a folder with shards."""

    images: int = 20_000
    """Number of images."""
    classes: int = 1_000
    """Folders that they lie in."""
    shard: int = 1_000
    """Images of a shard."""
    decoded: int = 500
    """Images that are decoded as well."""


def write(folder: Path, options: Benchmark) -> tuple[list[Path], list[Path]]:
    """JPEG files of 500 x 375 in class folders, and the same in shards."""
    coarse = np.random.default_rng(0).integers(0, 256, (24, 32, 3), dtype=np.uint8)
    content = cv2.imencode(".jpg", cv2.resize(coarse, (500, 375), interpolation=cv2.INTER_CUBIC))[1].tobytes()
    content += b"\0" * (110_000 - len(content))  # ILSVRC's mean size
    files = [folder / "files" / f"{number % options.classes}" / f"{number}.jpg" for number in range(options.images)]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    shards = []
    for start in range(0, len(files), options.shard):
        shards.append(folder / f"shard-{start // options.shard:04d}.tar")
        with tarfile.open(shards[-1], "w") as shard:
            for file in files[start : start + options.shard]:
                shard.add(file, arcname=file.name)
    os.sync()  # pages that were not written yet cannot be forgotten
    return files, shards


def forget(paths: list[Path]) -> None:
    """Ask the kernel to drop what it keeps of these files."""
    for path in paths:
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def from_files(files: list[Path]) -> Iterator[bytes]:
    """Each file's content, in random order as a training reads them."""
    for number in np.random.default_rng(0).permutation(len(files)):
        yield files[number].read_bytes()


def from_shards(shards: list[Path]) -> Iterator[bytes]:
    """Each member's content, front to back."""
    for shard in shards:
        with tarfile.open(shard, "r|") as members:
            for member in members:
                yield members.extractfile(member).read()


def milliseconds(read: Callable[[list[Path]], Iterator[bytes]], paths: list[Path], count: int) -> float:
    """Milliseconds an image, on one core."""
    start = time.perf_counter()
    if sum(1 for _ in read(paths)) != count:
        raise SystemExit("images are missing")
    return 1000 * (time.perf_counter() - start) / count


def main() -> None:
    """Print milliseconds an image."""
    options = tyro.cli(Benchmark, prog="python -m benchmarks.small_files", description=__doc__)
    with tempfile.TemporaryDirectory() as folder:
        files, shards = write(Path(folder), options)
        for name, read, paths in (
            ("folder, random order", from_files, files),
            ("shards, in order", from_shards, shards),
        ):
            forget(paths)
            cold, warm = (milliseconds(read, paths, len(files)) for _ in range(2))
            print(f"{name}: {cold:.3f} ms an image cold, {warm:.3f} ms warm", flush=True)
        start = time.perf_counter()
        for file in files[: options.decoded]:
            cv2.imread(str(file))
        print(f"decoding 500 x 375: {1000 * (time.perf_counter() - start) / options.decoded:.2f} ms an image")


if __name__ == "__main__":
    main()
