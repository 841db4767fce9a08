import numpy as np
import pytest
import torch

from bas.segmentation import affinity
from tests.bas.segmentation.filled import assert_close, golden


@pytest.mark.parametrize("radius", [2, 3, 5, 10])
def test_directions_and_paths_are_the_recorded_ones(radius):
    recorded = golden("paths", f"r{radius}/")
    found = affinity.directions(radius)
    assert [each.to for each in found] == [tuple(to) for to in recorded["search_dst"].tolist()]
    assert affinity.margin(radius) == recorded["radius_floor"]
    assert [point for each in found for point in each.path] == [
        tuple(point) for point in recorded["paths_flat"].tolist()
    ]
    shapes = [(len(group), len(group[0].path), 2) for group in affinity.grouped(radius)]
    assert shapes == [tuple(shape) for shape in recorded["group_shapes"].tolist()]


@pytest.mark.parametrize("case", ["r5_19x27", "r5_30x41", "r10_32x32", "r10_128x128", "r3_9x11", "r2_6x6"])
def test_path_indices_are_the_recorded_ones(case):
    recorded = golden("paths", f"{case}/")
    radius, size = int(case[1:].split("_")[0]), tuple(map(int, case.split("_")[1].split("x")))
    sources = affinity.source_indices(radius, size)
    np.testing.assert_array_equal(sources[:: 97 if size == (128, 128) else 1], recorded["src"])
    indices = affinity.path_indices(radius, size)
    assert [index.shape for index in indices] == [tuple(shape) for shape in recorded["index_shapes"].tolist()]
    assert [int(index.sum()) for index in indices] == recorded["index_sums"].tolist()
    weighted = [int((index.ravel() * (np.arange(index.size) % 1009)).sum()) for index in indices]
    assert weighted == recorded["index_sums_pos"].tolist()
    ends = np.concatenate([index[:, 0] for index in indices])
    assert ends.sum(axis=1).tolist() == recorded["dst_sum"].tolist()


@pytest.mark.parametrize("case", ["field0", "field1"])
def test_losses_and_gradients_of_a_field_are_the_recorded_ones(case):
    """Float64, 1e-9 of the greatest value."""
    recorded = golden("irn", f"{case}/")
    radius = int(recorded["radius_h_w"][0])
    edges = torch.from_numpy(recorded["edge"]).requires_grad_()
    moves = torch.from_numpy(recorded["dp"]).requires_grad_()
    labels = torch.from_numpy(recorded["labels"])
    found = affinity.affinities(torch.sigmoid(edges), radius)
    assert_close(found.sum(dim=2), recorded["aff_per_dst"], 1e-9)
    pairs = affinity.pair_displacements(moves, radius)
    assert_close(pairs.sum(dim=3), recorded["pair_disp_per_dst"], 1e-9)
    values = affinity.losses(edges, moves, labels, radius, 20)
    values["loss"].backward()
    assert values["loss"].item() == pytest.approx(float(recorded["loss"]), rel=1e-9)
    assert_close(edges.grad, recorded["grad_edge"], 1e-9)
    assert_close(moves.grad, recorded["grad_dp"], 1e-9)


@pytest.mark.parametrize("case", [0, 1, 2])
def test_the_random_walk_is_the_recorded_one(case):
    """Sparse steps against the release's dense squaring: float64 1e-9, float32 1e-3 of the greatest value."""
    recorded = golden("propagation", f"{case}/")
    maps, edges = torch.from_numpy(recorded["x"]), torch.from_numpy(recorded["edge"])
    assert_close(affinity.random_walk(maps, edges)[:, None], recorded["rw_f64"], 1e-9)
    assert_close(affinity.random_walk(maps.float(), edges.float())[:, None], recorded["rw_f32"], 1e-3)
    for beta, exponent, radius in ((10, 0, 5), (5, 3, 5), (10, 8, 3)):
        found = affinity.random_walk(maps, edges, radius, beta, exponent)[:, None]
        assert_close(found, recorded[f"rw_beta{beta}_exp{exponent}_r{radius}"], 1e-9)


def test_the_random_walk_equals_the_dense_one():
    """On a grid of unseen size: the transition matrix written out pair by pair, squared as released; 1e-12."""
    rng = np.random.default_rng(3)
    height, width, radius = 7, 9, 3
    edges, maps = rng.random((height, width)), rng.random((2, height, width))
    dense = np.eye(height * width)
    for direction in affinity.directions(radius):
        for y in range(height):
            for x in range(width):
                to_y, to_x = y + direction.to[0], x + direction.to[1]
                if to_y < height and 0 <= to_x < width:
                    value = 1 - max(edges[y + dy, x + dx] for dy, dx in direction.path)
                    dense[y * width + x, to_y * width + to_x] = dense[to_y * width + to_x, y * width + x] = value
    transition = dense**10
    transition /= transition.sum(axis=0)
    for _ in range(4):
        transition = transition @ transition
    expected = ((maps * (1 - edges)).reshape(2, -1) @ transition).reshape(maps.shape)
    found = affinity.random_walk(torch.from_numpy(maps), torch.from_numpy(edges), radius, 10, 4)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-12)


def test_a_grid_smaller_than_the_radius():
    found = affinity.random_walk(torch.ones(1, 1, 2), torch.zeros(1, 2))
    np.testing.assert_allclose(found, np.ones((1, 1, 2)), atol=1e-6)
