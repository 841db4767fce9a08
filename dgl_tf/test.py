"""Localize a whole data set at any layers, in one pass; every protocol can then score each layer's predictions.

    python -m dgl_tf.test --load runs/dgl --data.name cub --data.root CUB_200_2011 --out runs/dgl/test --clayer all
    python -m common.evaluate runs/dgl/test/*

Each layer has a folder `dgl-<layer>-<frame>`, and CAM of the same classifier `cam-<frame>`. One class's map serves
GT-known, Top-1 and Top-5: a prediction counts only where it names the true class, whose map it then is.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import cv2
import numpy as np
import tyro

from common.datasets import Dataset, DataSource
from common.measuring.extraction import min_max
from common.measuring.geometry import FRAMES, Frame, frame_kinds
from common.measuring.protocols import GRCAM
from common.runs.reader import Predictions
from common.runs.record import Prediction
from common.runs.writer import PredictionsWriter, finish, pending, skip
from common.system.errors import UserError, run_command
from common.system.progress import bar
from dgl_tf import localization, preprocessing, registry, sessions
from dgl_tf.preprocessing import View

tf = sessions.tf

SIDE = 224
"""Of the frames that maps are stored in, whatever the network's input."""
THRESHOLD = min(GRCAM.sweep, key=lambda threshold: abs(threshold - 0.15))
"""Of the box that is stored beside each map; the release gives none of its own."""


@dataclass(frozen=True, kw_only=True)
class Localize:
    """Localize images at one or more layers."""

    load: str
    """A training's folder; or a TensorFlow checkpoint, .npz or .safetensors; or imagenet:mobilenetv1."""
    data: DataSource
    """The images to localize."""
    out: Path
    """Folder for the predictions directories."""
    mode: Literal["vgg", "resnet50", "resnet50se", "inceptionv3", "mobilenetv1", "auto"] = "auto"
    """The network; auto: as the training's record says."""
    clayer: tuple[str, ...] = ("2",)
    """Layers by number or name, or all; see registry.LAYERS."""
    methods: tuple[Literal["dgl", "cam", "grad-cam"], ...] = ("dgl", "cam")
    """Beside DGL: class activation maps, which are of the last layer, and Grad-CAM at the same layers."""
    pa: float = localization.ALPHA
    """alpha, the label's factor."""
    gradient: Literal["released", "true"] = "released"
    """released: p - alpha y. true: alpha (p - y)."""
    map_class: Literal["label", "predicted"] = "label"
    """Whose map: the true class's, as GT-known asks, or the best one's of the whole image, as the demo shows."""
    frames: tuple[Literal["squash", "crop"], ...] = ("squash",)
    """squash: the whole image, for protocols dgl and grcam. crop: resize 256, centre crop 224, for adl and others."""
    crops: Literal[1, 10] = 10
    """Crops for classification: the mean of ten crops' probabilities, or the first frame alone."""
    classes_from: Path | None = None
    """Take classifications from these predictions of the same checkpoint and data, and compute none."""
    image_size: int = SIDE
    """Side of the network's input; LID 2020 took 324. Maps are stored at 224 all the same."""
    scales: tuple[float, ...] = (1.0,)
    """Factors of --image-size whose stretched maps are averaged; for LID 2020, whose own are unpublished, try
    0.75 1 1.25 1.5."""
    close: int = 0
    """Diameter of the ellipse that closes gaps of the 8-bit map, 0 for none; LID 2020's is unpublished."""
    decode: Literal["fast", "accurate"] = "fast"
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
class Mapper:
    """What the graph gives for a batch of images and their classes.

    Attributes:
        images: placeholder (N, H, W, 3) float32 BGR in [0, 255].
        classes: placeholder (N,) int32, -1 for the best class.
        probabilities: (N, K).
        maps: (N, h, w) by run, such as `dgl-Mixed_6e`.
    """

    images: Any
    classes: Any
    probabilities: Any
    maps: dict[str, Any]


def mapper(network_of, options: Localize, layers: Sequence[str]) -> Mapper:
    """Make the graph of maps.

    Args:
        network_of: makes the network of normalized images.
        options: of the command.
        layers: names of taps.
    """
    images = tf.placeholder(tf.float32, [None, None, None, 3])
    classes = tf.placeholder(tf.int32, [None])
    network = network_of(registry.normalized(images))
    probabilities = tf.nn.softmax(network.logits)
    best = localization.best_classes(probabilities)
    one_hot = tf.one_hot(classes, int(network.logits.shape[1]))
    wanted = tf.where(tf.broadcast_to(classes[:, None] >= 0, tf.shape(best)), one_hot, best)
    maps = {}
    if "dgl" in options.methods:
        found = localization.dual_gradients(network, layers, wanted, options.pa, options.gradient)
        maps |= {_run_name("dgl", one.layer): one.localization for one in found}
    if "grad-cam" in options.methods:
        maps |= {_run_name("grad-cam", layer): localization.grad_cam(network, layer, wanted) for layer in layers}
    if "cam" in options.methods:
        maps["cam"] = localization.class_activation(network, wanted)
    return Mapper(images, classes, probabilities, maps)


def _run_name(method: str, layer: str) -> str:
    return f"{method}-{layer.replace('/', '_')}"


def localize(options: Localize) -> list[Path]:
    """The command; gives the predictions directories."""
    _check(options)
    dataset = options.data.load()
    checkpoint, arch, class_names = registry.open_network(options.load, options.mode)
    if checkpoint.head(arch).num_classes < len(dataset.class_names):
        raise UserError(
            f"the network has {checkpoint.head(arch).num_classes} classes", where=checkpoint.name,
            expected=f"at least the data set's {len(dataset.class_names)}",
        )  # fmt: skip
    if class_names and tuple(class_names) != tuple(dataset.class_names):
        raise UserError("the network was trained on other classes", where=checkpoint.name,
                        expected=f"{dataset.class_names[0]}, ...")  # fmt: skip
    layers = registry.layer_names(arch, options.clayer)
    with sessions.new_graph(), sessions.session(options.threads) as session:
        networks = []

        def network_of(images):
            networks.append(registry.build_for(checkpoint, arch, images))
            return networks[-1]

        graph = mapper(network_of, options, layers)
        registry.load(session, networks[0], checkpoint)
        return _localize(session, graph, options, dataset, checkpoint, arch)


def _check(options: Localize) -> None:
    frame_kinds(options.frames)
    if not options.methods or not options.clayer:
        raise UserError("nothing to localize with", do="name --methods and --clayer")
    if options.pa <= 0 or options.close < 0 or min(options.scales, default=0) <= 0 or options.image_size < 32:
        raise UserError("--pa, --scales and --image-size must be positive, --close at least 0")


def _localize(session, graph: Mapper, options: Localize, dataset: Dataset, checkpoint, arch: str) -> list[Path]:
    writers = {
        (run, frame): _writer(options, dataset, checkpoint, arch, run, frame)
        for frame in options.frames
        for run in graph.maps
    }
    known = _known_classes(options, checkpoint, dataset)
    left = pending(dataset, writers.values(), options.batch_size)
    crops = options.crops if known is None else 1
    streams = [
        preprocessing.views(left, sizes, crops if number == 0 else 1, options.decode)
        for number, sizes in enumerate(_inputs(options))
    ]
    with bar(total=len(dataset), initial=len(dataset) - len(left), desc="localizing") as progress:
        for items in _batches(zip(*streams, strict=True), options.batch_size):
            _localize_batch(session, graph, options, items, writers, known)
            progress.update(len(items))
    return finish(writers.values())


def _inputs(options: Localize) -> list[str]:
    """Kinds of frame that the network is fed, every scale of the first frame first."""
    kinds = []
    for frame in options.frames:
        for scale in options.scales:
            side = round(options.image_size * scale)
            kinds.append(f"resize {side}" if frame == "squash" else f"resize {round(side * 256 / SIDE)} crop {side}")
    return kinds


def _batches(stream: Iterator[tuple[View, ...]], size: int) -> Iterator[list[tuple[View, ...]]]:
    batch = []
    for item in stream:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch


def _writer(options: Localize, dataset: Dataset, checkpoint, arch: str, run: str, frame: str) -> PredictionsWriter:
    method, _, layer = run.partition("-") if not run.startswith("grad-cam") else ("grad-cam", "", run[9:])
    kept = ("map_class", "image_size", "scales", "close", "decode", "maps")
    header = {
        "method": method,
        "architecture": f"{arch} {layer}".strip(),
        "checkpoint": {"name": checkpoint.name, "sha256": checkpoint.fingerprint()},
        "data": options.data.described(dataset),
        "classifier": {"name": arch, "crops": options.crops},
        "frame": FRAMES[frame],
        "options": {name: getattr(options, name) for name in kept} | {"threshold": THRESHOLD},
    }
    if method == "dgl":
        header["options"] |= {"pa": options.pa, "gradient": options.gradient}
    return PredictionsWriter(options.out / f"{run}-{frame}", header, options.overwrite)


def _known_classes(options: Localize, checkpoint, dataset: Dataset) -> dict[str, Prediction] | None:
    if options.classes_from is None:
        return None
    stored = Predictions.open(options.classes_from)
    same = stored.manifest["checkpoint"].get("sha256") == checkpoint.fingerprint()
    if not same or stored.manifest["data"].get("fingerprint") != dataset.fingerprint():
        raise UserError("classifications of another checkpoint or of other data", where=options.classes_from)
    if stored.manifest["classifier"].get("crops") != options.crops:
        raise UserError(f"classified with {stored.manifest['classifier'].get('crops')} crops",
                        where=options.classes_from, expected=f"--crops {options.crops}")  # fmt: skip
    missing = len(dataset) - len(stored.entries) - len(stored.skipped)
    if missing:
        raise UserError(f"{missing} of {len(dataset)} images are not classified there", where=options.classes_from,
                        do="leave --classes-from out")  # fmt: skip
    return {entry.image_id: entry for entry in stored.entries}


def _localize_batch(session, graph: Mapper, options: Localize, items, writers, known) -> None:
    """Maps and classes of some images, each given as its views, one for each kind of `_inputs`."""
    usable = []
    for item in items:
        image_id, problem = item[0].sample.image_id, item[0].problem
        if problem is None and known is not None and image_id not in known:
            problem = "not classified in --classes-from"
        if problem:
            skip(writers.values(), image_id, problem)
        else:
            usable.append(item)
    if not usable:
        return
    samples = [item[0].sample for item in usable]
    labels = [sample.label if options.map_class == "label" else -1 for sample in samples]
    summed, probabilities = {}, None
    for number in range(len(usable[0])):
        frame = options.frames[number // len(options.scales)]
        pixels = np.stack([item[number].pixels for item in usable])
        found, seen = session.run((graph.maps, graph.probabilities), {graph.images: pixels, graph.classes: labels})
        probabilities = seen if probabilities is None else probabilities
        for run, maps in found.items():
            stretched = np.stack([localization.enlarged(raw, (SIDE, SIDE)) for raw in maps])
            summed[run, frame] = summed.get((run, frame), 0) + stretched
    top5 = _classified(session, graph, options, [item[0] for item in usable], probabilities, known)
    for (run, frame), maps in summed.items():
        for sample, total, classes in zip(samples, maps, top5, strict=True):
            if sample.image_id not in writers[run, frame].done:
                _write(writers[run, frame], sample, _finished(total, options), FRAMES[frame], classes, options.maps)


def _finished(total: np.ndarray, options: Localize) -> np.ndarray:
    """The mean over scales, stretched again where there are several, and closed."""
    finished = total if len(options.scales) == 1 else min_max(total)
    if options.close:
        ellipse = cv2.getStructuringElement(cv2.MORPH_ELLIPSE, (options.close, options.close))
        finished = cv2.morphologyEx((finished * 255).astype(np.uint8), cv2.MORPH_CLOSE, ellipse) / np.float32(255)
    return finished.astype(np.float32)


def _classified(session, graph: Mapper, options: Localize, views: list[View], probabilities: np.ndarray, known):
    """Each image's five best classes and their probabilities."""
    if known is not None:
        return [(known[view.sample.image_id].top5, known[view.sample.image_id].top5_scores) for view in views]
    if options.crops == 10:
        each = [session.run(graph.probabilities, {graph.images: view.crops}).mean(axis=0) for view in views]
        probabilities = np.stack(each)
    order = np.argsort(-probabilities, axis=1, kind="stable")[:, :5]
    return [(tuple(best.tolist()), tuple(row[best].tolist())) for best, row in zip(order, probabilities, strict=True)]


def _write(writer: PredictionsWriter, sample, localization_map: np.ndarray, kind: str, classes, store: bool) -> None:
    frame = Frame.of_kind(kind, sample.size)
    (boxes,) = GRCAM.extractor.boxes(localization_map, [THRESHOLD])
    prediction = Prediction(
        image_id=sample.image_id,
        label=sample.label,
        size=frame.original,
        frame=frame,
        top5=classes[0],
        top5_scores=classes[1],
        box=boxes[0] if len(boxes) else None,
        threshold=THRESHOLD,
    )
    writer.write(prediction, localization_map if store else None)


def main() -> None:
    """The command line."""
    localize(tyro.cli(Localize, prog="python -m dgl_tf.test", description=__doc__))


if __name__ == "__main__":
    run_command(main)
