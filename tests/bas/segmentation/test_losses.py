import numpy as np
import pytest
import torch

from bas.segmentation import losses
from bas.segmentation.networks import build_bas
from tests import fill
from tests.bas.segmentation.filled import assert_close, filled, golden, inputs

NAMES = ("cls", "frg", "bas", "area")


@pytest.fixture(scope="module")
def network():
    return filled(build_bas("resnet50", 20))


def step(network, recorded, dtype=torch.float64):
    """The recorded batch through a network in training mode."""
    count, height, width, seed = (int(recorded[f"cfg_{name}"]) for name in "nhws")
    images = inputs(fill.batch(count, height, width, seed), dtype)
    labels, classes = torch.from_numpy(recorded["labels"]), torch.from_numpy(recorded["chosen"])
    output = network.train()(images, classes)
    return output, labels, classes


def gradients(network, loss):
    network.zero_grad()
    loss.backward(retain_graph=True)
    return {name: parameter.grad for name, parameter in network.named_parameters()}


@pytest.mark.slow
@pytest.mark.parametrize("case", ["b0", "b1", "c80"])
def test_a_training_step_is_the_recorded_one(network, case):
    """Passes, losses, every gradient and the running statistics in float64; tolerance 1e-9 of each greatest value."""
    recorded, names = golden("bas_train", f"{case}/"), golden("bas_train")["param_names"].tolist()
    network = filled(build_bas("resnet50", 80)) if case == "c80" else network
    state = {name: value.clone() for name, value in network.state_dict().items()}
    output, labels, classes = step(network, recorded)
    values = losses.total(output, labels, classes)
    found = {
        "score_1": output.scores,
        "score_2": output.guided_scores,
        "S": output.activation,
        "S_bg": output.background_activation,
        "M_fg": output.foreground_map,
        "feature_map_sub": output.class_maps[:, ::5],
        "ratio": losses.ratio(output),
        "area": output.foreground_map.mean(dim=(1, 2, 3)),
        "loss": torch.stack([values[name] for name in NAMES]),
        "loss_total": values["loss"],
    }
    for name, value in found.items():
        assert_close(value, recorded[name], 1e-9, name)
    assert [name for name, _ in network.named_parameters()] == names
    total = gradients(network, values["loss"])
    assert_close([float(total[name].norm()) for name in names], recorded["grad_norm"], 1e-9)
    assert_close([float(total[name].sum()) for name in names], recorded["grad_sum"], 1e-8)
    assert_close(total["classifier_loc.0.weight"].flatten(1).norm(dim=1), recorded["grad_loc_rows"], 1e-9)
    assert_close(total["classifier_cls.weight"].flatten(1).norm(dim=1), recorded["grad_cls_rows"], 1e-9)
    if case == "b0":
        for number, name in enumerate(NAMES):
            each = gradients(network, values[name])
            assert [each[key] is not None for key in names] == recorded[f"grad_used_{number}"].tolist(), name
            norms = [0.0 if each[key] is None else float(each[key].norm()) for key in names]
            assert_close(norms, recorded["grad_norm_each"][number], 1e-9, name)
    buffers = {name: value for name, value in network.named_buffers() if not name.endswith("tracked")}
    assert_close([float(value.sum()) for value in buffers.values()], recorded["buf_sum"], 1e-9)
    assert_close([float(value.abs().sum()) for value in buffers.values()], recorded["buf_abssum"], 1e-9)
    network.load_state_dict(state)


@pytest.mark.slow
def test_single_precision():
    """b0 in float32: losses 1e-4."""
    recorded = {**golden("bas_train", "b0/"), **golden("bas_train", "b0_f32/")}
    output, labels, classes = step(filled(build_bas("resnet50", 20), torch.float32), recorded, torch.float32)
    values = losses.total(output, labels, classes)
    assert_close(torch.stack([values[name] for name in NAMES]), recorded["loss"], 1e-4)


def test_where_each_loss_goes_by_the_gradient_table():
    """L_CLS never reaches the generator; the others never reach layer 4 or the classifier."""
    recorded = golden("bas_train", "b0/")
    names = golden("bas_train")["param_names"].tolist()
    for number in range(4):
        used = {name for name, flag in zip(names, recorded[f"grad_used_{number}"], strict=True) if flag}
        assert ("classifier_loc.0.weight" in used) == (number > 0)
        assert any(name.startswith(("layer4", "classifier_cls")) for name in used) == (number == 0)


def test_multi_label_loss_by_hand():
    """Two true classes of four: each against the two false ones, added up."""
    scores, labels = torch.tensor([[2.0, 1.0, 0.0, -1.0]], dtype=torch.float64), torch.tensor([[1, 1, 0, 0]])
    by_hand = np.log(1 + np.exp(-2) + np.exp(-3)) + np.log(1 + np.exp(-1) + np.exp(-2))
    assert losses.multi_label(scores, labels).item() == pytest.approx(by_hand, abs=1e-12)


def test_an_image_of_all_classes_has_no_multi_label_loss():
    scores = torch.randn(2, 3, requires_grad=True)
    loss = losses.multi_label(scores, torch.tensor([[1, 1, 1], [1, 0, 0]]))
    loss.backward()
    assert torch.equal(scores.grad[0], torch.zeros(3))
    assert torch.isfinite(scores.grad).all()
    assert scores.grad[1].abs().sum() > 0


def test_guidance_takes_other_true_classes_for_rivals_unless_told():
    scores, labels, classes = torch.tensor([[1.0, 2.0, 0.0]]), torch.tensor([[1, 1, 0]]), torch.tensor([0])
    by_hand = {"softmax": np.log(1 + np.exp(1) + np.exp(-1)), "negatives": np.log(1 + np.exp(-1))}
    for rivals, value in by_hand.items():
        found = losses.foreground_region_guidance(scores, classes, labels, rivals)
        assert found.item() == pytest.approx(value, abs=1e-6)


def test_drawn_classes_are_true_ones_and_all_of_them_in_time():
    labels = torch.tensor([[0, 1, 0, 1], [1, 0, 0, 0]])
    torch.manual_seed(0)
    drawn = torch.stack([losses.draw_classes(labels) for _ in range(40)])
    assert set(drawn[:, 0].tolist()) == {1, 3}
    assert set(drawn[:, 1].tolist()) == {0}
