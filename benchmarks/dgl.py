"""DGL: maps per second against the released procedure: a graph and a restore for each image, one image at a time.

    python -m benchmarks.dgl

Four ways to the same maps, on the same weights and JPEG files, each in a process of its own:

released      a process for each image, as the test script runs: imports, graph, restore, then the two gradients
looped        the same in one process, everything but the imports anew for each image
kept          the same graph and session for all images, still one at a time; the gradients are asked for at the layer,
              where TensorFlow stops of its own accord, and, for comparison, down to the image
here          batches through `dgl_tf.localization`, images decoded by threads meanwhile
"""

import multiprocessing
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import tyro

from common.datasets import Sample
from common.measuring.extraction import min_max
from dgl_tf import localization, preprocessing, registry, sessions, weights

tf = sessions.tf

TOLERANCE = 1e-3
"""Mean difference of stretched maps: a unit at its ReLU's zero makes a jump, so single pixels tell nothing."""


@dataclass(frozen=True)
class Benchmark:
    """Compare DGL's maps per second with the released procedure's."""

    arch: tuple[str, ...] = registry.ARCHITECTURES
    """Networks; mobilenetv1 takes ImageNet's weights, the others fresh ones."""
    layer: int = 2
    """Layer, counted as `--clayer` does."""
    images: int = 8
    """Number of images; one process gets the first, the loop the first two."""
    batch: int = 4
    """Images at a time, here."""
    repeats: int = 2
    """Measurements of the kept sessions, of which the least counts."""
    threads: int = 1
    """Threads of TensorFlow."""


def write_images(folder: Path, count: int) -> list[Path]:
    """JPEG files of 375 x 500 pixels with coloured blobs."""
    paths = []
    for number in range(count):
        coarse = np.random.RandomState(number).rand(9, 12, 3).astype(np.float32)
        picture = cv2.resize(coarse, (500, 375), interpolation=cv2.INTER_CUBIC)
        paths.append(folder / f"{number}.jpg")
        cv2.imwrite(str(paths[-1]), np.clip(255 * picture, 0, 255).astype(np.uint8))
    return paths


def write_checkpoint(folder: Path, arch: str) -> Path:
    """A network's TensorFlow checkpoint; gives its prefix."""
    with sessions.new_graph(), sessions.session() as session:
        network = registry.build(arch, tf.placeholder(tf.float32, [None, None, None, 3]))
        session.run(tf.global_variables_initializer())
        if arch == "mobilenetv1":
            registry.load(session, network, weights.IMAGENET)
        return Path(tf.train.Saver(network.variables).save(session, str(folder / "model"), write_meta_graph=False))


def released_graph(arch: str, layer: int, to_the_image: bool = False) -> tuple:
    """The test script's graph: the file's name, everything that it asks for, and the variables.

    Args:
        arch: of the network.
        layer: see `registry.LAYERS`.
        to_the_image: have both gradients go on to the network's input.
    """
    path = tf.placeholder(tf.string, [])
    decoded = tf.cast(tf.image.decode_jpeg(tf.read_file(path), channels=3), tf.float32)
    image = tf.image.resize_bilinear(decoded[None], [224, 224])
    pixels = registry.normalized(tf.reverse(image, [3]))
    network = registry.build(arch, pixels)
    _, tap = network.tap(layer)
    likely = tf.nn.softmax(network.logits)
    label = localization.best_classes(likely)
    cost = tf.nn.softmax_cross_entropy_with_logits(labels=localization.ALPHA * label, logits=network.logits)
    wanted = [tap, pixels] if to_the_image else [tap]
    class_gradient, *more = tf.gradients(cost, wanted)
    selection, *more_of_it = tf.gradients(tf.reduce_sum(network.logits * label), wanted)
    enhanced = tf.nn.l2_normalize(tap, axis=[1, 2, 3]) - tf.nn.l2_normalize(class_gradient, axis=[1, 2, 3])
    maps = tf.reduce_sum(selection * enhanced, axis=3)
    return path, [maps, localization.class_activation(network, label), more, more_of_it], network.variables


def released(arch: str, checkpoint: Path, paths: list[Path], options: Benchmark) -> tuple[float, np.ndarray]:
    """Seconds of a process that draws the first image's map, and the map."""
    start = time.perf_counter()
    _, maps = alone(looped, arch, checkpoint, paths[:1], options)
    return time.perf_counter() - start, maps


def looped(arch: str, checkpoint: Path, paths: list[Path], options: Benchmark) -> tuple[float, np.ndarray]:
    """Seconds an image, and its stretched maps, with everything made anew for each."""
    maps, start = [], time.perf_counter()
    for path in paths[:2]:
        with sessions.new_graph(), sessions.session(options.threads) as session:
            name, wanted, variables = released_graph(arch, options.layer)
            tf.train.Saver(variables).restore(session, str(checkpoint))
            maps.append(min_max(session.run(wanted, {name: str(path)})[0][0]))
    return (time.perf_counter() - start) / len(maps), np.stack(maps)


def kept(
    arch: str, checkpoint: Path, paths: list[Path], options: Benchmark, to_the_image: bool = False
) -> tuple[float, np.ndarray]:
    """The same in one session, which an image has warmed up."""
    with sessions.new_graph(), sessions.session(options.threads) as session:
        name, wanted, variables = released_graph(arch, options.layer, to_the_image)
        tf.train.Saver(variables).restore(session, str(checkpoint))
        session.run(wanted, {name: str(paths[0])})
        return least(lambda: [min_max(session.run(wanted, {name: str(path)})[0][0]) for path in paths], options.repeats)


def kept_to_the_image(arch: str, checkpoint: Path, paths: list[Path], options: Benchmark) -> tuple[float, np.ndarray]:
    """`kept`, the gradients going on to the image."""
    return kept(arch, checkpoint, paths, options, to_the_image=True)


def here(arch: str, checkpoint: Path, paths: list[Path], options: Benchmark) -> tuple[float, np.ndarray]:
    """Batches, after one to warm up."""
    samples = [Sample(path.name, path, 0, np.empty((0, 4))) for path in paths]
    with sessions.new_graph(), sessions.session(options.threads) as session:
        images = tf.placeholder(tf.float32, [None, None, None, 3])
        network = registry.build(arch, registry.normalized(images))
        label = localization.best_classes(tf.nn.softmax(network.logits))
        (dual,) = localization.dual_gradients(network, [options.layer], label)
        wanted = [dual.localization, localization.class_activation(network, label)]
        registry.load(session, network, checkpoint)
        session.run(wanted, {images: np.zeros((options.batch, 224, 224, 3), np.float32)})

        def every_map() -> list[np.ndarray]:
            maps, waiting = [], []
            for view in preprocessing.views(samples, "resize 224", crops=1):
                waiting.append(view.pixels)
                if len(waiting) == options.batch or len(maps) + len(waiting) == len(samples):
                    maps += [min_max(raw) for raw in session.run(wanted, {images: np.stack(waiting)})[0]]
                    waiting = []
            return maps

        return least(every_map, options.repeats)


def forwards(arch: str, checkpoint: Path, paths: list[Path], options: Benchmark) -> tuple[float, np.ndarray]:
    """Seconds an image of the way to the scores alone, in the same batches; nothing is decoded."""
    with sessions.new_graph(), sessions.session(options.threads) as session:
        images = tf.placeholder(tf.float32, [None, None, None, 3])
        network = registry.build(arch, registry.normalized(images))
        registry.load(session, network, checkpoint)
        batches = [
            np.zeros((len(paths[start : start + options.batch]), 224, 224, 3), np.float32)
            for start in range(0, len(paths), options.batch)
        ]
        session.run(network.logits, {images: batches[0]})
        return least(
            lambda: [scores for batch in batches for scores in session.run(network.logits, {images: batch})],
            options.repeats,
        )


def least(work: Callable[[], list[np.ndarray]], repeats: int) -> tuple[float, np.ndarray]:
    """The least seconds an image of some repetitions, and the maps."""
    seconds = []
    for _ in range(repeats):
        start = time.perf_counter()
        maps = work()
        seconds.append((time.perf_counter() - start) / len(maps))
    return min(seconds), np.stack(maps)


def alone(work: Callable, *arguments: object) -> tuple[float, np.ndarray]:
    """Run one measurement in a process of its own."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(work, arguments)


def main() -> None:
    """Print a line for each network."""
    options = tyro.cli(Benchmark, prog="python -m benchmarks.dgl", description=__doc__)
    for arch in options.arch:
        with tempfile.TemporaryDirectory() as folder:
            paths = write_images(Path(folder), max(2, options.images))
            checkpoint = alone(write_checkpoint, Path(folder), arch)
            given = (arch, checkpoint, paths, options)
            measured = {way.__name__: alone(way, *given) for way in (looped, kept, kept_to_the_image, here)}
            measured = {"released": released(*given), **measured}
            floor, _ = alone(forwards, *given)
        ours, maps = measured.pop("here")
        for name, (_, theirs) in measured.items():
            if np.abs(theirs - maps[: len(theirs)]).mean() > TOLERANCE:
                raise SystemExit(f"{arch}: the maps differ from those of {name}")
        others = (
            f"{name.replace('_', ' ')} {theirs:.3f} s, {theirs / ours:.2f} times as long"
            for name, (theirs, _) in measured.items()
        )
        layer = registry.LAYERS[arch][options.layer]
        print(f"{arch} {layer}, an image: here {ours:.3f} s in batches of {options.batch}, its forward pass alone "
              f"{floor:.3f} s; {'; '.join(others)}")  # fmt: skip


if __name__ == "__main__":
    main()
