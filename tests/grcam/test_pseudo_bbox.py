"""Step 3 by deep descriptor transforming, and its command."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from common.system.errors import UserError
from grcam.handover import read_boxes
from grcam.pseudo_bbox import descriptors, main, networks
from grcam.pseudo_bbox.main import PseudoBoxes, find_groups, make_boxes
from tests import fill

CPU = torch.device("cpu")


def made_features(count, seed=0):
    """Maps of 16 channels, 10 x 10, with an object of other descriptors at rows 3 to 7, columns 4 to 8."""
    rng = np.random.default_rng(seed)
    maps = rng.normal(0, 0.1, (count, 16, 10, 10)).astype(np.float32) + 1000
    maps[:, ::2, 3:8, 4:9] += 2
    return torch.from_numpy(maps)


@pytest.mark.parametrize("keep", [0, 6400, 2**30])
def test_mean_and_covariance_are_those_of_all_descriptors(keep):
    """1e-6 of the greatest, though the mean is 500 times the spread, batches come in any size, and some are kept."""
    features = made_features(7)
    group = descriptors.Descriptors(16, CPU, keep)
    assert [group.add(part) for part in features.split([1, 4, 2])] == [keep > 0, keep > 6400, keep > 6400]
    rows = features.permute(0, 2, 3, 1).reshape(-1, 16).double().numpy()
    np.testing.assert_allclose(group.drift() + group.shift, rows.mean(axis=0), rtol=1e-9)
    expected = np.cov(rows.T, bias=True)
    covariance = group.covariance_times(torch.eye(16, dtype=torch.float64))
    np.testing.assert_allclose(covariance, expected, atol=1e-6 * np.abs(expected).max())
    _, _, rows_of_vt = np.linalg.svd(rows - rows.mean(axis=0), full_matrices=False)
    assert abs(group.direction().numpy() @ rows_of_vt[0]) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("size", [5, 33, 200])
def test_leading_eigenvector(size):
    """1e-8, and where two eigenvalues are almost equal too."""
    rng = np.random.default_rng(size)
    basis, _ = np.linalg.qr(rng.normal(size=(size, size)))
    values = np.linspace(0.9, 0, size)
    values[0] = 1
    for second in (0.9, 1 - 1e-9):
        values[1] = second
        matrix = torch.from_numpy(basis * values @ basis.T)
        vector = descriptors.leading_eigenvector(matrix.matmul, matrix[0], tolerance=1e-10).numpy()
        residual = matrix.numpy() @ vector - vector
        assert np.abs(residual).max() < 1e-8
        assert np.linalg.norm(vector) == pytest.approx(1)


@pytest.mark.parametrize("keep", [0, 2**30])
def test_an_eigenvector_that_does_not_come_by_iteration(keep, monkeypatch):
    """All are computed then, from the whole matrix."""
    monkeypatch.setattr(descriptors, "PRECISE", 0)
    features = torch.rand(3, 64, 5, 5, generator=torch.Generator().manual_seed(0))
    group = descriptors.Descriptors(64, CPU, keep)
    group.add(features)
    rows = features.permute(0, 2, 3, 1).reshape(-1, 64).double()
    _, vectors = torch.linalg.eigh(torch.cov(rows.T, correction=0))
    assert abs(float(group.direction() @ vectors[:, -1])) == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("count", [1, 2, 6])
@pytest.mark.parametrize("cached", [0, 3 * 6400, 2**30])
def test_boxes_of_a_group_of_any_size(count, cached):
    """Equal, whatever is cached; the object's cells scaled by 22.4, less than half a cell off."""
    maps = dict(zip("abcdef", made_features(count), strict=False))
    asked = []

    def features(names):
        for start in range(0, len(names), 2):
            some = names[start : start + 2]
            asked.extend(some)
            yield some, torch.stack([maps[name] for name in some])

    boxes = descriptors.pseudo_boxes(list(maps), features, 16, CPU, cached)
    for box in boxes.values():
        np.testing.assert_allclose(box, [4 * 22.4, 9 * 22.4, 3 * 22.4, 8 * 22.4], atol=8)
    beyond = 0 if cached == 2**30 else count if cached == 0 else max(0, count - 2)
    assert len(asked) == count + beyond


def test_the_centre_decides_the_sign():
    """Turning the features about does not turn the score about."""
    for factor in (1, -1):
        group = descriptors.Descriptors(16, CPU)
        features = factor * (made_features(3) - 1000)
        group.add(features)
        centred = features - (group.drift() + group.shift)[:, None, None].float()
        scores = torch.einsum("nchw,c->nhw", centred, group.direction().float())
        assert scores[:, 5, 6].min() > 0 > scores[:, 0, 0].max()


def test_a_score_that_is_nowhere_positive():
    assert descriptors.box_of_scores(np.full((4, 4), -1.0)) == descriptors.WHOLE == (0, 223, 0, 223)
    assert descriptors.box_of_scores(np.ones((4, 4))) == (0, 223, 0, 223)


def test_the_largest_component_counts():
    scores = np.full((28, 28), -1.0)
    scores[2:4, 2:4] = 1
    scores[10:20, 8:24] = 1
    x0, x1, y0, y1 = descriptors.box_of_scores(scores)
    np.testing.assert_allclose([x0, x1, y0, y1], [64, 192, 80, 160], atol=4)


@pytest.fixture(scope="module")
def groups(tmp_path_factory):
    folder = tmp_path_factory.mktemp("step3") / "groups"
    for number, (group, name) in enumerate([("0", "a/one.png"), ("0", "two.png"), ("0", "three.png"), ("2", "four.png"),
                                            ("10", "five.png")]):  # fmt: skip
        (folder / group / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(fill.image(60, 80, number)).save(folder / group / name)
    (folder / "1").mkdir()
    return folder


@pytest.fixture
def small(monkeypatch):
    """A network of a few channels in place of the real ones, and a count of its forwards."""
    torch.manual_seed(0)
    seen = []

    class Small(nn.Sequential):
        def forward(self, images):
            seen.append(len(images))
            return super().forward(images)

    layers = Small(nn.Conv2d(3, 64, 8, 8), nn.BatchNorm2d(64), nn.ReLU())
    monkeypatch.setattr(main.networks, "load", lambda arch, path: networks.FeatureNetwork(
        layers, 64, (0.5,) * 3, (0.5,) * 3, {"name": "small", "sha256": None}))  # fmt: skip
    return seen


def options(groups, out, **changes):
    return PseudoBoxes(groups, out / "pseudo.txt", device="cpu", **changes)


@pytest.mark.slow
def test_the_command(groups, tmp_path, small):
    assert find_groups(groups) == {
        "0": ["a/one.png", "three.png", "two.png"], "1": [], "2": ["four.png"], "10": ["five.png"]}  # fmt: skip
    boxes = make_boxes(options(groups, tmp_path, batch_size=2))
    table = read_boxes(tmp_path / "pseudo.txt")
    assert {name: table.first(name) for name in table.rows} == boxes
    assert list(boxes) == ["a/one.png", "three.png", "two.png", "four.png", "five.png"]
    assert (tmp_path / "pseudo.txt").read_text().splitlines()[0].startswith("a/one.png,")
    assert small == [2, 1, 1, 1]
    assert make_boxes(options(groups, tmp_path, batch_size=8)) == boxes
    assert not list(tmp_path.glob("*.jsonl"))


@pytest.mark.slow
def test_a_stopped_run_goes_on(groups, tmp_path, small, monkeypatch):
    whole = make_boxes(options(groups, tmp_path / "whole"))
    real = descriptors.pseudo_boxes

    def stop_at_the_second(names, *arguments):
        if names == ["four.png"]:
            raise KeyboardInterrupt
        return real(names, *arguments)

    monkeypatch.setattr(descriptors, "pseudo_boxes", stop_at_the_second)
    with pytest.raises(KeyboardInterrupt):
        make_boxes(options(groups, tmp_path))
    with open(tmp_path / "pseudo.txt.progress.jsonl", "a") as file:
        file.write('{"group": "2", "bo')  # as a killed process leaves it
    monkeypatch.setattr(descriptors, "pseudo_boxes", real)
    small.clear()
    assert make_boxes(options(groups, tmp_path)) == whole
    assert small == [1, 1]


@pytest.mark.slow
def test_what_is_finished_is_not_made_again(groups, tmp_path, small):
    whole = make_boxes(options(groups, tmp_path))
    small.clear()
    assert make_boxes(options(groups, tmp_path)) == whole
    assert small == []


@pytest.mark.slow
def test_another_runs_boxes_are_kept(groups, tmp_path, small):
    make_boxes(options(groups, tmp_path))
    (tmp_path / "pseudo.txt").write_text("four.png,1, 2, 3, 4\n")
    with pytest.raises(UserError, match="the file says something else already"):
        make_boxes(options(groups, tmp_path))
    with pytest.raises(UserError, match="pseudo boxes of another run are being made"):
        make_boxes(options(groups, tmp_path, pseudo="released"))
    make_boxes(options(groups, tmp_path, pseudo="released", overwrite=True))


@pytest.mark.slow
def test_released_needs_three_images(groups, tmp_path, small, capsys):
    """Quirk Q11: the release crashes with fewer; here they get the whole frame, and a line says so."""
    boxes = make_boxes(options(groups, tmp_path, pseudo="released"))
    assert boxes["four.png"] == boxes["five.png"] == (0, 223, 0, 223)
    assert "group 2 has 1 image(s), fewer than the released arithmetic needs" in capsys.readouterr().out


@pytest.mark.slow
def test_unreadable_images_are_named(groups, tmp_path, small, capsys):
    copied = tmp_path / "groups"
    for path in groups.rglob("*.png"):
        (copied / path.relative_to(groups)).parent.mkdir(parents=True, exist_ok=True)
        (copied / path.relative_to(groups)).write_bytes(path.read_bytes())
    for name in ("0/three.png", "2/four.png"):
        (copied / name).write_bytes(b"no image")
    boxes = make_boxes(options(copied, tmp_path))
    assert boxes["three.png"] == boxes["four.png"] == (0, 223, 0, 223)
    assert "0/three.png: not a readable image" in capsys.readouterr().out


def test_an_image_in_two_groups(groups, tmp_path):
    for group in ("0", "1"):
        (tmp_path / group).mkdir()
        (tmp_path / group / "one.png").write_bytes(b"")
    with pytest.raises(UserError, match=r"one.png is in the groups 0 and 1"):
        find_groups(tmp_path)
    with pytest.raises(UserError, match="no such folder"):
        find_groups(tmp_path / "nothing")


def test_weights_of_another_network(tmp_path):
    torch.save({"state_dict": {"module.conv1.weight": torch.zeros(1)}}, tmp_path / "other.pth")
    with pytest.raises(UserError, match="no fc.weight in the checkpoint"):
        networks.load("resnet50", tmp_path / "other.pth")
    with pytest.raises(UserError, match="no such checkpoint"):
        networks.load("resnet50", tmp_path / "nothing.pth")


@pytest.mark.slow
def test_mobilenet_v1_from_a_cam_checkpoint(tmp_path):
    from common.pytorch import backbones, checkpoints

    model = backbones.build("mobilenet_v1", 3, pretrained=False)
    config = {"method": "cam", "architecture": "mobilenet_v1", "class_names": ["a", "b", "c"]}
    checkpoints.write(tmp_path / "final.pth", {"config": config, "model": model.state_dict()})
    network = networks.load("mobilenet_v1", tmp_path / "final.pth")
    pixels = [fill.image(50, 70, 1)]
    features = main.feature_maps(pixels, network, CPU)
    assert features.shape == (1, network.channels, 14, 14)
    assert len(json.dumps(network.record)) > 64
