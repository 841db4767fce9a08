"""GRCAM: step 1's map, step 3's directions, step 4's revision, against plain re-enactments of the released procedure.

    python -m benchmarks.grcam

The release goes through the network once for the map's gradient and features, a crop at a time here as there; it
centres a group's descriptors once more by an n x n matrix before a singular value decomposition; and it builds a
TensorFlow graph and a session for every box. Re-enactments run on as many images or boxes as can be waited for, and
the numbers that come out are compared.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import tyro


@dataclass(frozen=True)
class Benchmark:
    """Compare with the released procedure."""

    parts: tuple[str, ...] = ("map", "directions", "revision")
    """Which steps."""
    group: int = 8
    """Images of a group, 784 descriptors of 2,048 numbers each; the n x n matrix takes 2.5 MB times its square."""
    graphs: int = 10
    """Boxes that are revised as released."""
    images: int = 2
    """Images that are mapped, by MobileNetV1."""


def seconds(work: Callable[[], Any]) -> tuple[float, Any]:
    """How long it took, and what it gave."""
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

    from grcam.pseudo_bbox.descriptors import DescriptorStatistics

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
        statistics = DescriptorStatistics(2048, torch.device("cpu"))
        for one in features:
            statistics.add(one[None])
        return statistics.direction()

    (theirs, expected), (mine, found) = seconds(released), seconds(ours)
    assert abs(float(found @ expected.double())) > 1 - 1e-5
    matrix = 3 * (784 * options.group) ** 2 * 4 / 1e9
    return (f"directions of {options.group} images: {theirs:.1f} s and {matrix:.2f} GB for n x n matrices as released; "
            f"{mine:.2f} s and none here; {theirs / mine:.0f} times as fast")  # fmt: skip


def mapping(options: Benchmark) -> str:
    """Map and ten-crop classes by MobileNetV1: one crop after another and back-propagation against one pass."""
    import tensorflow.compat.v1 as tf

    from grcam.classifier import Classifier
    from grcam.views import Layout

    classifier, layout = Classifier("mobilenetv1", "imagenet:mobilenetv1"), Layout(("squash",), 10)
    rng = np.random.default_rng(0)
    pixels = [rng.integers(0, 256, (375, 500, 3), dtype=np.uint8) for _ in range(options.images)]
    network, session = classifier.network, classifier.session
    with session.graph.as_default():
        target = 10 * tf.one_hot(classifier.labels, classifier.classes)
        loss = tf.nn.softmax_cross_entropy_with_logits_v2(labels=target, logits=network.logits)
        (gradient,) = tf.gradients(loss, [network.features])
        mask = tf.nn.l2_normalize(tf.sigmoid(network.features), [1, 2, 3]) - tf.nn.l2_normalize(gradient, [1, 2, 3])
        refined = network.features * mask

    def released() -> list[np.ndarray]:
        maps = []
        for image in pixels:
            feed = {classifier.images: layout.of(image)[:1], classifier.labels: [3]}
            features = session.run(refined, feed)  # leaves the graph whole, as released
            session.run(classifier.probabilities, {classifier.images: layout.of(image)[1:]})
            maps.append(np.einsum("hwc,c->hw", features[0], session.run(network.head)[:, 3]))
        return maps

    def ours() -> list[np.ndarray]:
        found = classifier.look([layout.of(image) for image in pixels], [3] * len(pixels), layout)
        return [seen.refined[0] for seen in found]

    released(), ours()  # the first pass is slower than those that follow
    (theirs, expected), (mine, found) = seconds(released), seconds(ours)
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-5 * np.abs(expected).max())
    each = [value / options.images for value in (theirs, mine)]
    return f"map and classes: {each[0]:.2f} s an image as released, {each[1]:.2f} s here; {each[0] / each[1]:.2f} times"


PARTS = {"map": mapping, "directions": directions, "revision": revision}


def main() -> None:
    """Print a line for each part."""
    options = tyro.cli(Benchmark, prog="python -m benchmarks.grcam", description=__doc__)
    for name in options.parts:
        print(PARTS[name](options), flush=True)


if __name__ == "__main__":
    main()
