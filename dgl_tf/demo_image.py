"""Overlays of one or many images, as the release's demo writes them: DGL at a layer, and CAM.

    python -m dgl_tf.demo_image --data_path bird.jpg
    python -m dgl_tf.demo_image --load model-240000 --mode inceptionv3 --clayer 2 --data_path photographs --out overlays

Without --load it takes Google's MobileNetV1, which knows ImageNet's classes. The map is the predicted class's.
"""

from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import cv2
import numpy as np

from common.measuring.extraction import min_max
from common.pictures.files import image_endings, images_below
from common.pictures.images import ImageError
from common.system.errors import UserError, run_command
from common.system.files import write_atomically
from common.system.options import also, parse
from common.system.progress import bar
from common.tensorflow_files import converted
from dgl_tf import localization, preprocessing, registry, sessions, weights
from dgl_tf.sessions import tf


@dataclass(frozen=True)
class Demo:
    """Write DGL's and CAM's overlays of images."""

    data_path: tuple[Path, ...]
    """Images, or folders of them."""
    load: Annotated[str, also("checkpoint")] = weights.IMAGENET
    """A training's folder; or a TensorFlow checkpoint, .npz or .safetensors; or imagenet:mobilenetv1."""
    mode: Annotated[Literal["resnet50", "resnet50se", "inceptionv3", "vgg", "mobilenetv1", "auto"], also("arch")] = (
        "auto"
    )
    """The network; auto: as the training's record says."""
    dataset: Literal["auto", "imagenet", "cub"] = "auto"
    """Refuse a checkpoint whose classifier is not named after this data set; auto takes what there is."""
    clayer: Annotated[str, also("layer")] = "2"
    """The layer, by number or name; 0 is the last, where DGL equals CAM."""
    pa: Annotated[float, also("alpha")] = localization.ALPHA
    """alpha, the label's factor."""
    gradient: Literal["released", "true"] = "released"
    """released: p - alpha y. true: alpha (p - y)."""
    image_size: Annotated[int | None, also("input-size")] = None
    """Side of the network's input, which the image is squashed to; 224 unless a converted checkpoint's record says
    another."""
    decode: Annotated[Literal["fast", "accurate"], also("jpeg")] = "fast"
    """JPEG as TensorFlow decodes it by default, or as other libraries do."""
    out: Path = Path()
    """Folder for the pictures; with several images one folder each."""
    gpu: str | None = None
    """Sets CUDA_VISIBLE_DEVICES."""


def overlays(
    session: tf.Session, network: registry.Network, graph: dict, image: np.ndarray, size: int
) -> tuple[np.ndarray, np.ndarray, int]:
    """DGL's and CAM's pictures of one image, each (size, size, 3) uint8 BGR, and the predicted class.

    Args:
        session: with the network's weights.
        network: of the graph.
        graph: its tensors by name: `pixels`, `input`, `dgl`, `cam`, `probabilities`.
        image: (H, W, 3) uint8 RGB.
        size: of the network's input.
    """
    fed = {graph["pixels"]: preprocessing.squashed(image, size)[None]}
    wanted = [graph[name] for name in ("input", "dgl", "cam", "probabilities")]
    pixels, dual, cam, probabilities = session.run(wanted, fed)
    base = preprocessing.overlay_base(pixels[0])
    pictures = [preprocessing.overlay(base, min_max(raw[0])) for raw in (dual, cam)]
    return pictures[0], pictures[1], int(probabilities[0].argmax())


def demo(options: Demo) -> list[Path]:
    """Draw the maps of photographs, and return the pictures\' paths."""
    side = options.image_size or converted.read(options.load).input_size
    if options.pa <= 0 or side < 32:
        raise UserError(f"--pa {options.pa} --image-size {side}", expected="above 0, and at least 32")
    paths = _images(options.data_path)
    checkpoint, arch, names = registry.open_network(options.load, options.mode)
    class_names = names or ()
    _check_dataset(options, checkpoint, arch)
    (layer,) = registry.layer_names(arch, [options.clayer])
    shown = registry.released_layer(arch, layer).replace("/", "_")
    with sessions.new_graph(), sessions.session() as session:
        pixels = tf.placeholder(tf.float32, [None, None, None, 3])
        normalized = registry.normalized(pixels)
        network = registry.build_for(checkpoint, arch, normalized)
        probabilities = tf.nn.softmax(network.logits)
        (maps,) = localization.dual_gradients(network, [layer], alpha=options.pa, gradient=options.gradient)
        graph = {
            "pixels": pixels, "input": normalized, "dgl": maps.localization, "probabilities": probabilities,
            "cam": localization.class_activation(network, localization.best_classes(probabilities)),
        }  # fmt: skip
        registry.load(session, network, checkpoint)
        written: list[Path] = []
        failed = 0
        for path in bar(paths, total=len(paths), desc="drawing"):
            folder = options.out if len(paths) == 1 else options.out / path.name
            try:
                image = preprocessing.read_photograph(path, options.decode)
            except ImageError as problem:
                print(f"left out: {problem}")
                failed += 1
                continue
            dual, cam, best = overlays(session, network, graph, image, side)
            named = class_names[best] if best < len(class_names) else f"class {best}"
            files = (folder / f"{arch}_{shown}_dgl.png", folder / f"{arch}_cam.png")
            for file, picture in zip(files, (dual, cam), strict=True):
                _write(file, picture)
            print(f"{path}: {named}; {files[0]}, {files[1]}")
            written += files
    if failed:
        raise UserError(f"{failed} of {len(paths)} images could not be read", do="see the lines above")
    return written


def _images(paths: tuple[Path, ...]) -> list[Path]:
    found = []
    for path in paths:
        if path.is_dir():
            found += [file for file in images_below(path, Counter()) if not file.is_dir()]
        elif path.is_file():
            found.append(path)
        else:
            raise UserError("no such image or folder", where=path)
    if not found:
        raise UserError(
            "no images there", where=paths[0] if paths else None, expected=", ".join(sorted(image_endings()))
        )
    if len({path.name for path in found}) != len(found):
        raise UserError("two images have one name, and so would their pictures", do="draw them one folder at a time")
    return found


def _check_dataset(options: Demo, checkpoint: weights.Checkpoint, arch: str) -> None:
    if options.dataset == "auto" or arch == "mobilenetv1":
        return
    found, expected = checkpoint.head(arch).classifier, registry.classifier_name(arch, options.dataset)
    if found != expected:
        raise UserError(f"the classifier is called {found}", where=checkpoint.name, expected=expected,
                        do="say --dataset auto to take it all the same")  # fmt: skip


def _write(path: Path, picture: np.ndarray) -> None:
    done, content = cv2.imencode(".png", picture)
    if not done:
        raise RuntimeError("OpenCV could not encode a picture")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, lambda file: file.write(content.tobytes()))


def main() -> None:
    """Run the command line."""
    import os

    options = parse(Demo, prog="python -m dgl_tf.demo_image", description=__doc__)
    if options.gpu is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = options.gpu
    demo(options)


if __name__ == "__main__":
    run_command(main)
