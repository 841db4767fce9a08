"""DGL, CAM and Grad-CAM of `dgl_tf`'s classifiers, and GRCAM's refined map, as `wsol.localizer` asks for them."""

from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np

from common.measuring.geometry import CENTRE_CROP, SIDE, Frame, seen_kind
from common.measuring.protocols import GRCAM
from common.runs.localizing import Box
from common.runs.provenance import known_of
from common.system.errors import UserError
from common.tensorflow_files import converted
from dgl_tf import localization, preprocessing, registry, sessions
from dgl_tf.sessions import tf
from dgl_tf.test import THRESHOLD
from wsol.localizer import Seen


class TensorflowReader:
    """The reading of photographs as the releases read images: through TensorFlow's own JPEG decoder."""

    def read(self, path: Path) -> np.ndarray:
        """Decode a photograph, turned upright by its EXIF tag."""
        return preprocessing.read_photograph(path)

    def __getstate__(self) -> NoReturn:
        """Refuse, in one line, to be pickled or copied: the network lives in a session of this process.

        Raises:
            UserError: always.
        """
        raise UserError("a localizer in TensorFlow can't be copied or sent to another process, as its session can't",
                        do="call wsol.load there")  # fmt: skip


class Dgl(TensorflowReader):
    """DGL at a layer, CAM, or Grad-CAM at a layer.

    Args:
        checkpoint: see `dgl_tf.test`'s `--load`.
        name: `dgl`, `cam` or `grad-cam`.
        layer: a number of `registry.LAYERS`, or a name.
        arch: the network, or `auto`.
        class_names: where no record tells them.
    """

    def __init__(
        self, checkpoint: str, name: str, layer: str | int, arch: str, class_names: tuple[str, ...] | None = None
    ):
        opened, arch, recorded = registry.open_network(checkpoint, arch)
        self.side = converted.read(checkpoint).input_size
        (self.layer,) = registry.layer_names(arch, [str(layer)])
        self.name, self.class_names, self.box = name, class_names or recorded or None, Box(GRCAM.extractor, THRESHOLD)
        self.architecture = arch if name == "cam" else f"{arch} {self.layer}"
        with tf.Graph().as_default():
            self.images = tf.placeholder(tf.float32, [None, None, None, 3])
            self.classes = tf.placeholder(tf.int32, [None])
            network = registry.build_for(opened, arch, registry.normalized(self.images))
            self.num_classes = int(network.logits.shape[1])
            self.wanted = (self._maps(network), tf.nn.softmax(network.logits))
            self.session = sessions.session()
            registry.load(self.session, network, opened)

    def _maps(self, network: registry.Network) -> tf.Tensor:
        classes = localization.chosen_or_best(self.classes, tf.nn.softmax(network.logits))
        if self.name == "cam":
            return localization.class_activation(network, classes)
        if self.name == "grad-cam":
            return localization.grad_cam(network, self.layer, classes)
        return localization.dual_gradients(network, [self.layer], classes)[0].localization

    def look(self, images: Sequence[np.ndarray], kind: str, labels: Sequence[int] | None) -> list[Seen]:
        """See `wsol.localizer.Method`."""
        frames = [Frame.of_kind(kind, image.shape[1::-1]) for image in images]
        seen = [Frame.of_kind(seen_kind(kind, self.side), frame.original) for frame in frames]
        pixels = [preprocessing.in_frame(image, frame) for image, frame in zip(images, seen, strict=True)]
        wanted = [-1] * len(images) if labels is None else labels
        raw, rows = self.session.run(self.wanted, {self.images: np.stack(pixels), self.classes: wanted})
        maps = [localization.enlarged(one, (SIDE, SIDE)).astype(np.float32) for one in raw]
        return [Seen(frame, one, row) for frame, one, row in zip(frames, maps, rows, strict=True)]


class Grcam(TensorflowReader):
    """GRCAM's refined map, in closed form.

    Args:
        checkpoint: as `grcam.generate_predicted_bbox` takes it.
        arch: the network.
        class_names: where they are known.
    """

    name = "grcam"

    def __init__(self, checkpoint: str, arch: str, class_names: tuple[str, ...] | None = None):
        from grcam.classifier import Classifier
        from grcam.config import MODES
        from grcam.generate_predicted_bbox import STORED_TH

        if arch not in MODES:
            raise UserError(f"architecture {arch!r}", expected=f"one of {', '.join(MODES)}, by arch=")
        self.classifier = Classifier(arch, checkpoint)
        self.architecture, self.num_classes = arch, self.classifier.classes
        self.class_names = class_names or known_of(checkpoint).class_names
        self.box = Box(GRCAM.extractor, 1 - STORED_TH)

    def look(self, images: Sequence[np.ndarray], kind: str, labels: Sequence[int] | None) -> list[Seen]:
        """See `wsol.localizer.Method`."""
        from grcam.generate_predicted_bbox import localization_map
        from grcam.views import Layout

        layout = Layout(("crop", "squash") if kind == CENTRE_CROP else ("squash",), 1, self.classifier.side)
        views = [layout.of(image) for image in images]
        if labels is None:  # the choice needs a look of its own, since the map is of one class
            first = self.classifier.look(views, [0] * len(images), layout)
            labels = [int(seen.probabilities.argmax()) for seen in first]
        found = self.classifier.look(views, labels, layout)
        place = layout.frames.index("crop") if kind == CENTRE_CROP else 0
        frames = [Frame.of_kind(kind, image.shape[1::-1]) for image in images]
        return [
            Seen(frame, localization_map(seen.refined[place]), seen.probabilities)
            for frame, seen in zip(frames, found, strict=True)
        ]
