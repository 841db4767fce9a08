"""Step 1's network: a classifier of `dgl_tf.registry`, a checkpoint in it, and the maps beside it in one graph."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import tensorflow.compat.v1 as tf

from common.tensorflow_files import converted
from dgl_tf import registry, sessions, weights
from grcam import graph
from grcam.config import LABEL_FACTOR
from grcam.views import Layout, Seen


class Classifier:
    """A network with its weights, and a session.

    Args:
        mode: one of `config.MODES`.
        checkpoint: a TensorFlow checkpoint's prefix, or anything else that `dgl_tf.weights.open_checkpoint` takes. Both
            kinds of Inception are recognized: the release's own, with batch norm in its head, and DGL's, without.
        kind: `released` or `true`, the loss's gradient.
        factor: of the label in the loss.

    Attributes:
        classes: K, which may be more than the data set has.
        record: the checkpoint's name and sha256.
        side: of the images it was trained on, 224 unless a converted checkpoint's record says another.
        network: the variables and taps.
        session: they live in.

    Raises:
        UserError: no such checkpoint, or one of another network; the release prints a line and leaves with status 0
            (quirk Q12).
    """

    def __init__(self, mode: str, checkpoint: Path | str, kind: str = "released", factor: float = LABEL_FACTOR):
        self.path = checkpoint
        opened, self.side = weights.open_checkpoint(checkpoint), converted.read(checkpoint).input_size
        with tf.Graph().as_default():
            self.images = tf.placeholder(tf.float32, [None, self.side, self.side, 3])
            self.mapped = tf.placeholder(tf.int32, [None])
            self.labels = tf.placeholder(tf.int32, [None])
            self.network = registry.build_for(opened, mode, registry.normalized(self.images[..., ::-1]))
            features, scores = (tf.gather(values, self.mapped) for values in (self.network.features, self.logits))
            self.maps = graph.maps(features, scores, self.network.head, self.labels, kind, factor)
            self.probabilities = tf.nn.softmax(self.logits)
            self.session = sessions.session()
            registry.load(self.session, self.network, opened)
        self.classes = int(self.network.head.shape[1])
        self.record = {"name": opened.name, "sha256": opened.fingerprint()}

    @property
    def logits(self) -> tf.Tensor:
        """(N, K), before the softmax."""
        return self.network.logits

    def look(self, images: Sequence[np.ndarray], labels: Sequence[int], layout: Layout) -> list[Seen]:
        """Classify images and map their true classes, all their views in one pass.

        Args:
            images: the views of each, (V, side, side, 3) float32 RGB in [0, 255].
            labels: true classes.
            layout: of the views.
        """
        views, count = len(images[0]), len(images)
        mapped = [number * views + place for number in range(count) for place in layout.mapped]
        feed = {
            self.images: np.concatenate(images),
            self.mapped: mapped,
            self.labels: np.repeat(labels, len(layout.mapped)),
        }
        probabilities, maps = self.session.run([self.probabilities, self.maps], feed)
        each = probabilities.reshape(count, views, -1)[:, layout.classified].mean(axis=1)
        refined, plain = (values.reshape(count, len(layout.mapped), *values.shape[1:]) for values in maps)
        return [Seen(*of_one) for of_one in zip(each, refined, plain, strict=True)]
