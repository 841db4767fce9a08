"""Localize a whole data set at any layers, in one pass; every protocol can then score each layer's predictions.

    python -m dgl_tf.test --load runs/dgl --data.name cub --data.root CUB_200_2011 --out runs/dgl/test --clayer all
    python -m common.evaluate runs/dgl/test/*

Each layer has a folder `dgl-<layer>-<frame>`, and CAM of the same classifier `cam-<frame>`. One class's map serves
GT-known, Top-1 and Top-5: a prediction counts only where it names the true class, whose map it then is.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal

import cv2
import numpy as np

from common.datasets import Dataset, DataSource, Sample, classes
from common.datasets.classes import Matching
from common.measuring.extraction import min_max
from common.measuring.geometry import FRAMES, SIDE, Frame, frame_kinds, seen_kind
from common.measuring.protocols import GRCAM
from common.runs.localizing import Box, Classes, Localizing, best_classes, say_side
from common.runs.provenance import known_of
from common.runs.reader import Predictions
from common.runs.record import Prediction
from common.runs.writer import PredictionsWriter
from common.system.errors import UserError, run_command
from common.system.options import also, parse
from common.tensorflow_files import converted
from dgl_tf import localization, preprocessing, registry, sessions, weights
from dgl_tf.preprocessing import View
from dgl_tf.sessions import tf

FrameName = Literal["squash", "crop"]
THRESHOLD = min(GRCAM.sweep, key=lambda threshold: abs(threshold - 0.15))
"""Threshold of the box that is stored beside each map; the release gives none of its own."""


@dataclass(frozen=True, kw_only=True)
class Localize:
    """Localize images at one or more layers."""

    load: Annotated[str, also("checkpoint")]
    """A training's folder; or a TensorFlow checkpoint, .npz or .safetensors; or imagenet:mobilenetv1."""
    data: DataSource
    """The images to localize."""
    out: Path
    """Folder for the predictions directories."""
    mode: Annotated[Literal["vgg", "resnet50", "resnet50se", "inceptionv3", "mobilenetv1", "auto"], also("arch")] = (
        "auto"
    )
    """The network; auto: as the training's record says."""
    clayer: Annotated[tuple[str, ...], also("layers")] = ("2",)
    """Layers by number or name, or all, see common/tensorflow_files/architectures.py; 2 is the release's default, while
    wsol test maps takes 0, the last, of any classifier."""
    methods: tuple[Literal["dgl", "cam", "grad-cam"], ...] = ("dgl", "cam")
    """Maps to make: DGL's, class activation maps (of the last layer), and Grad-CAM at the same layers."""
    pa: Annotated[float, also("alpha")] = localization.ALPHA
    """alpha, the label's factor."""
    gradient: Literal["released", "true"] = "released"
    """released: p - alpha y. true: alpha (p - y)."""
    map_class: Literal["label", "predicted"] | None = None
    """Class whose map is made: the true class's, as GT-known asks, or the best one's of the whole image, as the demo
    shows; by default the true class's, where it is among the network's classes."""
    frames: tuple[FrameName, ...] = ("squash",)
    """squash: the whole image, for protocols dgl and grcam. crop: resize 256, centre crop 224, for adl and others."""
    crops: Literal[1, 10] = 10
    """Crops for classification: the mean of ten crops' probabilities, or the first frame alone."""
    classes_from: Path | None = None
    """Take classifications from these predictions of the same checkpoint and data, and compute none."""
    image_size: Annotated[int | None, also("input-size")] = None
    """Side of the network's input, 224 unless a converted checkpoint's record says another; LID 2020 took 324. Maps are
    stored at 224 all the same."""
    scales: tuple[float, ...] = (1.0,)
    """Factors of --image-size whose stretched maps are averaged; for LID 2020, whose own are unpublished, try
    0.75 1 1.25 1.5."""
    close: int = 0
    """Diameter of the ellipse that closes gaps of the 8-bit map, 0 for none; LID 2020's is unpublished."""
    decode: Annotated[Literal["fast", "accurate"], also("jpeg")] = "fast"
    """JPEG as TensorFlow decodes it by default, or as other libraries do."""
    maps: bool = True
    """Store the maps; without them only the one box can be scored."""
    batch_size: int = 8
    """Images at a time, ten crops each."""
    threads: int | None = None
    """CPU threads of TensorFlow; by default its own choice."""
    overwrite: bool = False
    """Start anew where a folder holds other predictions."""


@dataclass(frozen=True)
class MapGraph:
    """Placeholders and results of the graph, for a batch of images and their classes.

    Attributes:
        network: whose maps these are.
        images: placeholder (N, H, W, 3) float32 BGR in [0, 255].
        classes: placeholder (N,) int32, -1 for the best class.
        probabilities: (N, K).
        maps: (N, h, w) by run, such as `dgl-Mixed_6e`.
    """

    network: registry.Network
    images: tf.Tensor
    classes: tf.Tensor
    probabilities: tf.Tensor
    maps: dict[str, tf.Tensor]


def map_graph(checkpoint: weights.Checkpoint, arch: str, options: Localize, layers: Sequence[str]) -> MapGraph:
    """Build the graph of maps in the default one, its variables still unfilled.

    Args:
        checkpoint: says how many classes the network has.
        arch: the network's name.
        options: of the command.
        layers: names of taps.
    """
    images = tf.placeholder(tf.float32, [None, None, None, 3])
    classes = tf.placeholder(tf.int32, [None])
    network = registry.build_for(checkpoint, arch, registry.normalized(images))
    probabilities = tf.nn.softmax(network.logits)
    wanted = localization.chosen_or_best(classes, probabilities)
    maps: dict[str, tf.Tensor] = {}
    if "dgl" in options.methods:
        found = localization.dual_gradients(network, layers, wanted, options.pa, options.gradient)
        maps |= {_run_name("dgl", one.layer): one.localization for one in found}
    if "grad-cam" in options.methods:
        maps |= {_run_name("grad-cam", layer): localization.grad_cam(network, layer, wanted) for layer in layers}
    if "cam" in options.methods:
        maps["cam"] = localization.class_activation(network, wanted)
    return MapGraph(network, images, classes, probabilities, maps)


def _run_name(method: str, layer: str) -> str:
    return f"{method}-{layer.replace('/', '_')}"


def localize(options: Localize) -> list[Path]:
    """Localize a split, and return the predictions directories."""
    _check(options)
    dataset = options.data.load()
    checkpoint, arch, names = registry.open_network(options.load, options.mode)
    outputs, index = checkpoint.head(arch).num_classes, options.data.class_index
    imagenet = options.load == weights.IMAGENET
    matching = classes.match(dataset, names, outputs, checkpoint.name, imagenet=imagenet, index=index)
    side = _side(options)
    say_side(side, converted.read(options.load).input_size)
    options = replace(options, map_class=classes.which_map(options.map_class, matching), image_size=side)
    layers = registry.layer_names(arch, options.clayer)
    with sessions.new_graph(), sessions.session(options.threads) as session:
        graph = map_graph(checkpoint, arch, options, layers)
        registry.load(session, graph.network, checkpoint)
        return _localize(session, graph, Job(options, dataset, checkpoint, arch, matching))


def _check(options: Localize) -> None:
    frame_kinds(options.frames)
    if not options.methods or not options.clayer:
        raise UserError("nothing to localize with", do="name --methods and --clayer")
    if options.pa <= 0 or options.close < 0 or min(options.scales, default=0) <= 0 or _side(options) < 32:
        raise UserError("--pa, --scales and --image-size must be positive, --close at least 0")


def _side(options: Localize) -> int:
    """Side of the network's input: as asked for, or that of its training."""
    return options.image_size or converted.read(options.load).input_size


@dataclass(frozen=True, eq=False)
class Job:
    """Images and the network that localizes them.

    Attributes:
        options: of the command, resolved.
        dataset: the images, by the data set's labels.
        checkpoint: the network's weights.
        arch: the network's name.
        matching: of the data set's classes with the network's.
    """

    options: Localize
    dataset: Dataset
    checkpoint: weights.Checkpoint
    arch: str
    matching: Matching


def _localize(session: tf.Session, graph: MapGraph, job: Job) -> list[Path]:
    options, matching = job.options, job.matching
    writers = {(name, frame): _writer(job, name, frame) for frame in options.frames for name in graph.maps}
    known = _known_classes(job)
    dataset = matching.for_network(job.dataset)
    crops = options.crops if known is None else 1
    trained = converted.read(options.load).input_size
    box, size = Box(GRCAM.extractor, THRESHOLD), options.batch_size

    def left_out(sample: Sample) -> str | None:
        return None if known is None or sample.image_id in known else "not classified in --classes-from"

    with Localizing(dataset, writers, size, box=box, store_maps=options.maps, left_out=left_out) as run:
        streams = [
            preprocessing.views(run.left, sizes, crops if number == 0 else 1, options.decode, side=trained)
            for number, sizes in enumerate(_inputs(options))
        ]
        for items in run.batches(_batches(zip(*streams, strict=True), size)):
            maps, classified = _look(session, graph, options, items, known)
            for (name, frame), of_frame in maps.items():
                for item, total, best in zip(items, of_frame, classified, strict=True):
                    if not run.done((name, frame), item.sample):
                        lies = Frame.of_kind(FRAMES[frame], item.sample.size)
                        run.write((name, frame), item.sample, lies, best, _finished(total, options))
    return run.finish()


@dataclass(frozen=True, eq=False)
class ImageViews:
    """One image as each kind of `_inputs` shows it."""

    views: tuple[View, ...]

    @property
    def sample(self) -> Sample:
        """The image."""
        return self.views[0].sample

    @property
    def problem(self) -> str | None:
        """Why the image can't be used."""
        return self.views[0].problem


def _inputs(options: Localize) -> list[str]:
    """Kinds of frame that the network is fed, every scale of the first frame first."""
    sides = [round(_side(options) * scale) for scale in options.scales]
    return [seen_kind(FRAMES[frame], side) for frame in options.frames for side in sides]


def _batches(stream: Iterator[tuple[View, ...]], size: int) -> Iterator[list[ImageViews]]:
    while batch := [ImageViews(views) for views in islice(stream, size)]:
        yield batch


def _writer(job: Job, run: str, frame: FrameName) -> PredictionsWriter:
    options = job.options
    method, _, layer = run.partition("-") if not run.startswith("grad-cam") else ("grad-cam", "", run[9:])
    kept = ("map_class", "image_size", "scales", "close", "decode", "maps")
    header: dict[str, Any] = {
        "method": method,
        "architecture": f"{job.arch} {layer}".strip(),
        "checkpoint": {
            "name": job.checkpoint.name,
            "sha256": job.checkpoint.fingerprint(),
            "training": known_of(options.load).training,
        },
        "data": options.data.described(job.dataset, options.load),
        "classifier": {"name": job.arch, "crops": options.crops},
        "frame": FRAMES[frame],
        "options": {name: getattr(options, name) for name in kept} | {"threshold": THRESHOLD},
    }
    if method == "dgl":
        header["options"] |= {"pa": options.pa, "gradient": options.gradient}
    return PredictionsWriter(options.out / f"{run}-{frame}", header, options.overwrite, classes=job.matching)


def _known_classes(job: Job) -> dict[str, Prediction] | None:
    """The classes that `--classes-from` stored, by image; None where the network classifies itself."""
    options, dataset, matching = job.options, job.dataset, job.matching
    if options.classes_from is None:
        return None
    stored = Predictions.open(options.classes_from)
    same = stored.manifest.sha256 == job.checkpoint.fingerprint()
    if not same or stored.manifest.fingerprint != dataset.fingerprint():
        raise UserError("classifications of another checkpoint or of other data", where=options.classes_from)
    if (crops := stored.manifest.classifier.get("crops")) != options.crops:
        raise UserError(f"classified with {crops} crops",
                        where=options.classes_from, expected=f"--crops {options.crops}")  # fmt: skip
    missing = len(dataset) - len(stored.entries) - len(stored.skipped)
    if missing:
        raise UserError(f"{missing} of {len(dataset)} images are not classified there", where=options.classes_from,
                        do="leave --classes-from out")  # fmt: skip
    if matching.record is None:
        return {entry.image_id: entry for entry in stored.entries}
    return {entry.image_id: replace(entry, top5=entry.top5 and tuple(map(matching.back.index, entry.top5)))
            for entry in stored.entries}  # fmt: skip


def _look(
    session: tf.Session,
    graph: MapGraph,
    options: Localize,
    items: Sequence[ImageViews],
    known: dict[str, Prediction] | None,
) -> tuple[dict[tuple[str, FrameName], np.ndarray], list[Classes]]:
    """Each run's maps (N, 224, 224), summed over scales, by its name and frame, and the classes of some images."""
    labels = [item.sample.label if options.map_class == "label" else -1 for item in items]
    summed: dict[tuple[str, FrameName], np.ndarray] = {}
    probabilities: np.ndarray = np.empty(0)
    for number in range(len(items[0].views)):
        frame = options.frames[number // len(options.scales)]
        views = [item.views[number].pixels for item in items]
        pixels = np.stack([view for view in views if view is not None])
        found, seen = session.run((graph.maps, graph.probabilities), {graph.images: pixels, graph.classes: labels})
        probabilities = seen if number == 0 else probabilities
        for name, maps in found.items():
            stretched = np.stack([localization.enlarged(raw, (SIDE, SIDE)) for raw in maps])
            summed[name, frame] = summed[name, frame] + stretched if (name, frame) in summed else stretched
    return summed, _classified(session, graph, options, items, probabilities, known)


def _finished(total: np.ndarray, options: Localize) -> np.ndarray:
    """The mean over scales, stretched again where there are several, and closed."""
    finished = total if len(options.scales) == 1 else min_max(total)
    if options.close:
        ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (options.close, options.close))
        finished = cv2.morphologyEx((finished * 255).astype(np.uint8), cv2.MORPH_CLOSE, ellipse) / np.float32(255)
    return finished.astype(np.float32)


def _classified(
    session: tf.Session,
    graph: MapGraph,
    options: Localize,
    items: Sequence[ImageViews],
    probabilities: np.ndarray,
    known: dict[str, Prediction] | None,
) -> list[Classes]:
    """Each image's five best classes and their probabilities."""
    samples = [item.sample for item in items]
    if known is not None:
        return [Classes(known[sample.image_id].top5, known[sample.image_id].top5_scores) for sample in samples]
    if options.crops == 10:
        crops = [item.views[0].crops for item in items]
        probabilities = np.stack([session.run(graph.probabilities, {graph.images: of}).mean(axis=0) for of in crops])
    return best_classes(probabilities, samples)


def main() -> None:
    """Run the command line."""
    localize(parse(Localize, prog="python -m dgl_tf.test", description=__doc__))


if __name__ == "__main__":
    run_command(main)
