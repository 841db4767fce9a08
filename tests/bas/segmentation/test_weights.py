import io
import re
from pathlib import Path

import pytest
import torch

from bas.segmentation import weights
from bas.segmentation.networks import CamNetwork, IrnNetwork, build_bas
from common.system.errors import UserError

NAMES = Path(__file__).parents[2] / "golden/bas_segmentation"


def listed(kind):
    """(name, shape) of the authors' canonical entries."""
    lines = (NAMES / f"names_{kind}.txt").read_text().splitlines()
    rows = [line.split("\t")[:2] for line in lines if line and not line.startswith("#")]
    return {name: () if shape == "scalar" else tuple(map(int, shape.split("x"))) for name, shape in rows}


def saved(path, network, kind, trunk="resnet50", **options):
    config = {
        "method": weights.METHODS[kind],
        "architecture": trunk,
        "class_names": ["a", "b", "c"],
        "options": options,
    }
    torch.save({"format": 1, "config": config, "model": network.state_dict()}, path)
    return path


@pytest.mark.parametrize(("kind", "build"), [
    ("bas", lambda: build_bas("resnet50", 20)), ("cam", lambda: CamNetwork("resnet50", 20)), ("irn", IrnNetwork),
])  # fmt: skip
def test_names_and_shapes_are_the_authors(kind, build):
    with torch.device("meta"):
        state = build().state_dict()
    buffers = re.compile(r"path_indices\d+|disp_target")
    expected = {name: shape for name, shape in listed(kind).items() if not buffers.fullmatch(name)}
    assert {name: tuple(value.shape) for name, value in state.items()} == expected


@pytest.mark.parametrize(("kind", "count"), [("cam", 956), ("irn", 1056)])
def test_aliases_are_as_many_as_the_authors_files_have(kind, count):
    names = list(listed(kind))
    canonical = [name for name in names if not name.startswith(("path_", "disp_"))]
    assert len(weights.aliases(canonical, kind)) + len(names) == count


@pytest.mark.slow
def test_bas_goes_to_the_authors_format_and_back(tmp_path):
    network = build_bas("resnet50", 3)
    loaded = weights.Loaded(network, "bas", "resnet50", {}, None, 3)
    weights.export(loaded, tmp_path / "epoch_10.pth.tar")
    assert (tmp_path / "epoch_10.pth.tar").read_bytes()[:2] != b"PK"
    state = torch.load(tmp_path / "epoch_10.pth.tar", weights_only=True)
    assert all(name.startswith("module.") for name in state)
    back = weights.load_bas(tmp_path / "epoch_10.pth.tar")
    assert (back.class_names, back.num_classes) == (None, 3)
    assert all(torch.equal(value, network.state_dict()[name]) for name, value in back.network.state_dict().items())


@pytest.mark.slow
def test_aliases_that_disagree_are_refused(tmp_path):
    network = CamNetwork("resnet50", 3)
    weights.export(weights.Loaded(network, "cam", "resnet50", {}, None, 3), tmp_path / "cam.pth", irn_aliases=True)
    state = torch.load(tmp_path / "cam.pth", weights_only=True)
    assert len(state) == 956
    assert torch.equal(state["backbone.0.4.0.conv1.weight"], state["resnet50.layer1.0.conv1.weight"])
    assert weights.load_cam(tmp_path / "cam.pth").num_classes == 3
    state["newly_added.0.weight"] = state["newly_added.0.weight"] + 1
    torch.save(state, tmp_path / "cam.pth")
    with pytest.raises(UserError, match=r"newly_added.0.weight and classifier.weight should be one tensor and differ"):
        weights.load_cam(tmp_path / "cam.pth")


def test_our_checkpoints_load_and_know_their_classes(tmp_path):
    path = saved(tmp_path / "final.pth", build_bas("mobilenet_v1", 3, 11), "bas", "mobilenet_v1", tap=11)
    loaded = weights.load_bas(path)
    assert loaded.network.tap == 11
    weights.check_classes(loaded, ("a", "b", "c"), path)
    with pytest.raises(UserError, match="trained on other classes"):
        weights.check_classes(loaded, ("a", "b", "d"), path)
    with pytest.raises(UserError, match="knows 3 classes; expected the data set's 2"):
        weights.check_classes(loaded, ("a", "b"), path)
    with pytest.raises(UserError):
        weights.load_cam(path)


def test_only_resnet50_has_an_authors_format():
    with pytest.raises(UserError, match="no format for mobilenet_v1"):
        weights.export(weights.Loaded(torch.nn.Identity(), "bas", "mobilenet_v1", {}, None, 3), Path("x"))


def test_a_pickle_is_refused(tmp_path):
    torch.save({"weights": io.BytesIO()}, tmp_path / "bad.pth")
    with pytest.raises(UserError):
        weights.load_irn(tmp_path / "bad.pth")
