"""GRCAM: step 1, step 3's directions, step 4's revision, against plain re-enactments of the released procedure.

    python -m benchmarks.grcam

The release decodes each image three times in step 1, once with scikit-image only for its size, and differentiates its
loss; it centres a group's descriptors once more by an n x n matrix before a singular value decomposition; and it builds
a TensorFlow graph and a session for every box. Re-enactments run on as many images or boxes as can be waited for, and
the numbers that come out are compared.
"""

import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import skimage.io
import skimage.transform
import tyro


@dataclass(frozen=True)
class Benchmark:
    """Compare with the released procedure."""

    parts: tuple[str, ...] = ("step_1", "directions", "revision")
    """Steps to measure."""
    group: int = 8
    """Images of a group, 784 descriptors of 2,048 numbers each; the n x n matrix takes 2.5 MB times its square."""
    graphs: int = 10
    """Boxes that are revised as released."""
    images: int = 4
    """Images that step 1 is made of."""
    modes: tuple[str, ...] = ("mobilenetv1", "vgg", "resnet50se", "inceptionv3")
    """Step 1's networks."""


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds that a call took, and its result."""
    start = time.perf_counter()
    result = work()
    return time.perf_counter() - start, result


def revision(options: Benchmark) -> str:
    """450,000 boxes in closed form against a graph and a session for each."""
    import tensorflow.compat.v1 as tf

    from grcam.revision import revise

    rng = np.random.default_rng(0)
    predicted, pseudo = rng.integers(0, 224, (9, 50_000, 4)), rng.integers(0, 224, (50_000, 4))
    ours, found = seconds(lambda: revise(predicted, pseudo))

    def released(number: int) -> np.ndarray:
        with tf.Graph().as_default(), tf.Session() as session:
            box, star = (tf.constant(boxes[number], tf.float32) for boxes in (predicted[0], pseudo))
            box = box[None]
            gradient = tf.gradients(tf.reduce_mean((star - box) ** 2), [box])
            change = tf.nn.l2_normalize(tf.nn.sigmoid(box), 0) - tf.nn.l2_normalize(gradient, 0)[0]
            revised = box - 2 * change * tf.nn.l2_normalize(gradient, 0)[0]
            return session.run(tf.clip_by_value(revised, 0, 223))[0]

    theirs, expected = seconds(lambda: [released(number) for number in range(options.graphs)])
    np.testing.assert_allclose(found[0, : options.graphs], expected, atol=1e-4)
    each = theirs / options.graphs
    return (f"revision: {each * 1000:.1f} ms a box as released ({options.graphs} of them); {ours:.2f} s for all "
            f"{found[..., 0].size:,} here; {each * found[..., 0].size / ours:,.0f} times as fast")  # fmt: skip


def directions(options: Benchmark) -> str:
    """The principal direction of a group's descriptors, network left out."""
    import torch

    from grcam.pseudo_bbox.descriptors import Descriptors

    generator = torch.Generator().manual_seed(0)
    features = torch.rand(options.group, 2048, 28, 28, generator=generator)
    features[:, ::3, 8:20, 8:20] += 0.5

    def released() -> torch.Tensor:
        rows = features.permute(0, 2, 3, 1).reshape(-1, 2048)
        rows = rows - rows.mean(dim=0)
        n = len(rows)
        rows = (torch.eye(n) - torch.ones(n, n) / n) @ rows
        return torch.linalg.svd(rows, full_matrices=False).Vh[0]

    def ours() -> torch.Tensor:
        descriptors = Descriptors(2048, torch.device("cpu"))
        for some in features.split(8):  # the command's batch
            descriptors.add(some)
        return descriptors.direction()

    (theirs, expected), (mine, found) = seconds(released), seconds(ours)
    assert abs(float(found @ expected.double())) > 1 - 1e-5
    matrix = 3 * (784 * options.group) ** 2 * 4 / 1e9
    return (f"directions of {options.group} images: {theirs:.1f} s and {matrix:.2f} GB for n x n matrices as released; "
            f"{mine:.2f} s and none here; {theirs / mine:.0f} times as fast")  # fmt: skip


def step_1(options: Benchmark) -> str:
    """Step 1 from files to ten-crop classes and nine boxes, by each network of `modes`."""
    with tempfile.TemporaryDirectory() as folder:
        return "\n".join(_step_1(options, mode, Path(folder)) for mode in options.modes)


def _step_1(options: Benchmark, mode: str, folder: Path) -> str:
    import tensorflow.compat.v1 as tf

    from common.datasets import Sample
    from grcam.classifier import Classifier
    from grcam.generate_predicted_bbox import boxes_of, localization_map
    from grcam.views import Layout, batches

    classifier, layout = Classifier(mode, _checkpoint(mode, folder)), Layout(("squash",), 10)
    files = [_photograph(folder / f"{number}.jpg", number) for number in range(options.images)]
    samples = [Sample(path.name, path, 3, None, None) for path in files]
    network, session = classifier.network, classifier.session
    with session.graph.as_default():
        name = tf.placeholder(tf.string)
        decoded = tf.image.decode_jpeg(tf.read_file(name))[None]
        whole = tf.image.resize_bilinear(decoded, (224, 224))
        larger = tf.image.resize_bilinear(tf.image.decode_jpeg(tf.read_file(name))[None], (256, 256))
        sides = (larger, tf.reverse(larger, [2]))
        starts = ((0, 0), (0, 32), (32, 0), (32, 32), (16, 16))
        crops = tf.concat([side[:, y : y + 224, x : x + 224] for side in sides for y, x in starts], 0)
        target = 10 * tf.one_hot(classifier.labels, classifier.classes)
        loss = tf.nn.softmax_cross_entropy_with_logits_v2(labels=target, logits=network.logits)
        (gradient,) = tf.gradients(loss, [network.features])
        mask = tf.nn.l2_normalize(tf.sigmoid(network.features), [1, 2, 3]) - tf.nn.l2_normalize(gradient, [1, 2, 3])
        refined = network.features * mask

    def released() -> list[tuple]:
        found = []
        for path in files:
            size_as_released(path)
            views = session.run([whole, crops], {name: str(path)})
            features, head = session.run([refined, network.head], {classifier.images: views[0], classifier.labels: [3]})
            session.run(classifier.probabilities, {classifier.images: views[1]})
            enlarged = localization_map(np.einsum("hwc,c->hw", features[0], head[:, 3]))
            found.append(boxes_of(enlarged))
        return found

    def ours() -> list[tuple]:
        found = []
        for items in batches(samples, layout, "fast", 4, 2):
            seen = classifier.look([item.views for item in items], [3] * len(items), layout)
            found += [boxes_of(localization_map(one.refined[0])) for one in seen]
        return found

    def passes() -> None:
        for _ in files:
            session.run(classifier.probabilities, {classifier.images: np.zeros((11, 224, 224, 3), np.float32)})

    released(), ours(), passes()  # the first pass is slower than those that follow
    (theirs, expected), (mine, found), (floor, _) = seconds(released), seconds(ours), seconds(passes)
    assert np.abs(np.subtract(found, expected)).max() <= 1, "other boxes"
    theirs, mine, floor = (value / options.images for value in (theirs, mine, floor))
    return (f"step 1, {mode}: {theirs:.2f} s an image as released, {mine:.2f} s here; {theirs / mine:.2f} times as "
            f"fast; its eleven forward passes alone {floor:.2f} s")  # fmt: skip


def _checkpoint(mode: str, folder: Path) -> Path | str:
    """MobileNetV1's ImageNet weights; those of other networks are random."""
    import tensorflow.compat.v1 as tf

    from dgl_tf import registry, sessions

    if mode == "mobilenetv1":
        return "imagenet:mobilenetv1"
    with tf.Graph().as_default(), sessions.session() as session:
        network = registry.build(mode, tf.zeros((1, 224, 224, 3)), 1000)
        session.run(tf.global_variables_initializer())
        np.savez(folder / f"{mode}.npz", **{key: session.run(value) for key, value in network.variables.items()})
    return folder / f"{mode}.npz"


def _photograph(path: Path, seed: int) -> Path:
    """A JPEG file of 500 x 375 with some structure."""
    coarse = np.random.default_rng(seed).integers(0, 256, (12, 16, 3), dtype=np.uint8)
    cv2.imwrite(str(path), cv2.resize(coarse, (500, 375), interpolation=cv2.INTER_CUBIC))
    return path


def size_as_released(path: Path) -> tuple[int, int]:
    """The release decodes and resizes every image once more, only to learn its size (quirk Q21)."""
    image = skimage.io.imread(path) / 255.0
    assert ((image >= 0) & (image <= 1)).all()
    skimage.transform.resize(image, (224, 224))
    return image.shape[:2]


PARTS = {"step_1": step_1, "directions": directions, "revision": revision}


def main() -> None:
    """Print a line for each part."""
    options = tyro.cli(Benchmark, prog="python -m benchmarks.grcam", description=__doc__)
    for name in options.parts:
        print(PARTS[name](options), flush=True)


if __name__ == "__main__":
    main()
