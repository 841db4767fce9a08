"""Loads a method with its network by looking at what a checkpoint is; each framework is imported when it is needed."""

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from common.datasets.known import imagenet_names
from common.datasets.named import class_names as names_in
from common.datasets.named import ordered
from common.system.architectures import canonical, spelled_for
from common.system.errors import UserError
from wsol.localizer import Localizer, Method

if TYPE_CHECKING:
    from torch import nn

    from common.pytorch.maps.reshape import Reshape

METHODS = ("cam", "bas", "spol", "dgl", "grcam", "grad-cam")
OF_ANY_CLASSIFIER = ("cam", "dgl", "grcam", "grad-cam")
Names = Sequence[str] | Mapping[Any, Any] | str | Path
"""Class names: in the order of the scores, by number, numbers by name, or a file of either."""


def load(
    checkpoint: str | Path,
    method: str | None = None,
    *,
    layer: str | int | None = None,
    arch: str | None = None,
    class_names: Names | None = None,
    classifier: str | None = None,
    variant: str | None = None,
    recipe: Literal["cub", "imagenet"] | None = None,
    top_k: int | None = None,
    frame: str = "squash",
    threshold: float | None = None,
    input_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    sigmoid: bool = False,
    framework: str = "auto",
    device: str = "auto",
) -> Localizer:
    """Load a method with its network.

    Args:
        checkpoint: a final.pth of any training here, an authors' file, a TensorFlow checkpoint of DGL or GRCAM, a plain
            state dict together with `arch`, `imagenet:<arch>`, or `timm:<name>` and `torchvision:<name>` for a
            published classifier with its own weights.
        method: one of `METHODS`; by default what the checkpoint was trained for, and CAM of a classifier.
        layer: of DGL and Grad-CAM: a module's name, or a number counted from the last map down. By default 0, the last,
            in either framework; of a TensorFlow checkpoint, a training's or an authors', 2 of its network's layers, as
            DGL was released.
        arch: of a file that does not say; for a plain state dict `timm:<name>`, `torchvision:<name>` or
            `module:function`, a function of yours that builds the network.
        class_names: the classes in their order, by number, or a file with a name a line or in JSON, where the
            checkpoint does not say; the names that it says in another order are refused.
        classifier: of SPOL, which has none of its own: a final.pth of stage cls, or `imagenet:<arch>`.
        variant: of an authors' BAS file: CUB, ILSVRC or EXT.
        recipe: of SPOL: whose released threshold, `cub` or `imagenet`; by default that of the checkpoint's own
            training, and `cub` where it does not say.
        top_k: of BAS: how many of the best classes' maps are averaged where no class is asked for.
        frame: `squash`, the whole picture, or `crop`, its centre.
        threshold: of the box; by default as the method's own command stores it.
        input_size, mean, std: of a classifier of your own, mean and std RGB of images in [0, 1]; by default what timm
            or torchvision say of it, else 224 and ImageNet's. Images in [0, 255] are mean 0 0 0, std 1/255 each.
        sigmoid: of a classifier of your own: probabilities are each score's sigmoid, as of a network that gives several
            labels at once; by default all scores' softmax.
        framework: `auto`, `torch` or `tensorflow`, for a checkpoint that both can take.
        device: auto, cpu, cuda or cuda:N; of PyTorch.

    Raises:
        UserError: no such checkpoint, one that the method can't take, or an argument for another method; it says what
            was found and what to do.
    """
    if method is not None and method not in METHODS:
        raise UserError(f"unknown method {method!r}", expected=f"one of {', '.join(METHODS)}")
    text, names = str(checkpoint), _names(class_names)
    made: Method
    if foreign := _is_foreign(text, arch):
        from wsol import libraries

        found = libraries.load(text, arch, input_size, mean, std)
        made = found.as_method(_of_classifiers(method), layer, device, sigmoid)
    elif by_tensorflow := _by_tensorflow(text, method, framework):
        made = _of_tensorflow(text, method or "dgl", layer, arch)
    else:
        made = _of_torch(text, method, layer, arch, classifier, variant, recipe, top_k, device)
    of_images = {} if foreign else {"input_size": input_size, "mean": mean, "std": std, "sigmoid": sigmoid or None}
    of_methods = {"classifier": classifier, "recipe": recipe, "variant": variant, "top_k": top_k, "layer": layer}
    _refuse_idle(made, of_images | of_methods, not foreign and by_tensorflow)
    return Localizer(_named(made, names), frame, threshold)


def cam(
    model: "nn.Module",
    layer: "str | int | nn.Module" = 0,
    method: str = "cam",
    *,
    class_names: Names | None = None,
    input_size: int | None = None,
    mean: Sequence[float] | None = None,
    std: Sequence[float] | None = None,
    frame: str = "squash",
    threshold: float | None = None,
    reshape: "Reshape | None" = None,
    scores: Callable[[Any], Any] | None = None,
    sigmoid: bool = False,
    device: str = "auto",
) -> Localizer:
    """Localize with a classifier that you hold in memory.

    Args:
        model: any PyTorch classifier of normalized RGB images; it is put into inference, on the device. One of BGR
            images wants a wrapper that turns them: `lambda images: model(images.flip(1))` in a module.
        layer: a module or its name, or a number counted from the last map down, 0 being the last.
        method: `cam`, `grad-cam`, `dgl` or `grcam`.
        class_names: as for `load`.
        input_size: side of its input; by default what timm says of its networks, else 224.
        mean, std: RGB, what images in [0, 1] are normalized with; by default what timm says of its networks, else
            ImageNet's. (0, 0, 0) and (1, 1, 1) of a network that normalizes its images itself.
        frame, threshold, sigmoid, device: as for `load`.
        reshape: how a layer's output becomes (N, C, h, w) where it is none, such as `common.pytorch.maps.tokens()`; by
            default known of timm's and torchvision's ViT and Swin.
        scores: takes the scores (N, K), before a softmax, out of what the model returns; by default the tensor itself,
            the first of a tuple, `logits` or `scores`.

    Raises:
        UserError: a model that can't be used, with what is the matter.
    """
    from wsol import classifiers

    own = classifiers.in_memory(model, input_size, mean, std, reshape, scores)
    made = own.as_method(_of_classifiers(method), layer, device, sigmoid)
    return Localizer(_named(made, _names(class_names)), frame, threshold)


def _of_classifiers(method: str | None) -> str:
    if method not in (None, *OF_ANY_CLASSIFIER):
        raise UserError(
            f"{method} is not made of a classifier alone", expected=f"one of {', '.join(OF_ANY_CLASSIFIER)}"
        )
    return method or "cam"


def _is_foreign(checkpoint: str, arch: str | None) -> bool:
    """Whether this is somebody's own classifier: named by a library, or a state dict whose network is named."""
    return checkpoint.startswith(("timm:", "torchvision:")) or ":" in (arch or "")


def _by_tensorflow(checkpoint: str, method: str | None, framework: str) -> bool:
    if framework not in ("auto", "torch", "tensorflow"):
        raise UserError(f"framework {framework!r}", expected="auto, torch or tensorflow")
    path = Path(checkpoint)
    is_tensorflows = path.is_dir() or path.suffix == ".npz" or Path(f"{checkpoint}.index").is_file()
    if checkpoint.startswith("imagenet:") and method in ("dgl", "grcam", "grad-cam"):
        is_tensorflows = find_spec("torch") is None
    if framework == "torch" and is_tensorflows:
        raise UserError("a TensorFlow checkpoint", where=path, do="leave framework out")
    return is_tensorflows or framework == "tensorflow"


def _of_tensorflow(checkpoint: str, method: str, layer: str | int | None, arch: str | None) -> Method:
    _need("tensorflow", "dgl_tf")
    layer = (0 if checkpoint.startswith("imagenet:") else 2) if layer is None else layer
    from common.tensorflow_files.architectures import ARCHITECTURES
    from wsol import tensorflow_methods

    names = None
    if checkpoint.startswith("imagenet:"):
        arch = spelled_for(ARCHITECTURES, checkpoint.removeprefix("imagenet:"))
        checkpoint, names = f"imagenet:{arch}", imagenet_names()
    elif arch is not None:
        arch = spelled_for(ARCHITECTURES, arch)
    if method == "grcam":
        return tensorflow_methods.Grcam(checkpoint, arch or "", names)
    if method not in ("dgl", "cam", "grad-cam"):
        raise UserError(f"a TensorFlow checkpoint has no {method}", expected="dgl, cam, grad-cam or grcam")
    return tensorflow_methods.Dgl(checkpoint, method, layer, arch or "auto", names)


def _of_torch(
    checkpoint: str,
    method: str | None,
    layer: str | int | None,
    arch: str | None,
    classifier: str | None,
    variant: str | None,
    recipe: Literal["cub", "imagenet"] | None,
    top_k: int | None,
    device: str,
) -> Method:
    _need("torch", "bas or spol")
    from wsol import torch_methods

    if checkpoint.startswith("imagenet:"):
        checkpoint = f"imagenet:{canonical(checkpoint.removeprefix('imagenet:'))}"
    method = method or torch_methods.method_of(checkpoint)
    if method == "bas":
        from bas.config import ARCHITECTURES

        arch = None if arch is None else spelled_for(ARCHITECTURES, arch)
        return torch_methods.bas(Path(checkpoint), top_k, arch, variant, device)
    if method == "spol":
        return torch_methods.Spol(Path(checkpoint), classifier, recipe, device)
    return torch_methods.of_classifier(checkpoint, method, 0 if layer is None else layer, device)


def _need(framework: str, environment: str) -> None:
    if find_spec(framework) is None:
        raise UserError(f"{framework} is not installed here", do=f"take the environment {environment}, or all")


def _refuse_idle(made: Method, given: dict[str, Any], by_tensorflow: bool) -> None:
    """Refuse arguments that the method does not look at.

    Raises:
        UserError: one of them is given.
    """
    used = {
        "classifier": made.name == "spol",
        "recipe": made.name == "spol",
        "variant": made.name == "bas",
        "top_k": made.name == "bas",
        "layer": made.name in (("dgl", "grad-cam") if by_tensorflow else OF_ANY_CLASSIFIER),
    }
    for name, value in given.items():
        if value is not None and not used.get(name, False):
            what = f"{made.name} of this checkpoint" if name in used else "a checkpoint that says what its images are"
            raise UserError(f"{name} {value} for {what}", do=f"leave {name} out")


def _named(made: Method, names: tuple[str, ...] | None) -> Method:
    """A method with the class names that were given.

    Raises:
        UserError: another number of names than the network has classes, or the checkpoint's own names in another
            order.
    """
    if names is not None:
        if made.num_classes is None:
            raise UserError(f"class names for {made.name} without a classifier", do="say classifier, or leave them out")
        if made.num_classes != len(names):
            raise UserError(f"{len(names)} class names", expected=f"{made.num_classes}, as the network has classes")
        known = made.class_names
        ours, theirs = ([name.strip().casefold() for name in each or ()] for each in (names, known))
        if known is not None and ours != theirs and sorted(ours) == sorted(theirs):
            number = next(number for number, name in enumerate(theirs) if ours[number] != name)
            raise UserError("the checkpoint's class names in another order", expected=f"{known[number]!r} as class "
                            f"{number}, not {names[number]!r}", do="leave class_names out")  # fmt: skip
        made.class_names = names
    return made


def _names(given: Names | None) -> tuple[str, ...] | None:
    """Class names in the order of the network's scores."""
    if given is None:
        return None
    if isinstance(given, str | Path):
        return names_in(Path(given))
    return ordered(given, "class_names")
