import math

import pytest
import torch

from spol.losses import BACKGROUND, FOREGROUND, IGNORED, one_branch_loss, pooled, segmentation_loss, two_branch_loss


def maps(*scores):
    """Class maps (1, C, 2, 2) whose means are the scores."""
    return torch.tensor(scores, dtype=torch.float64).view(1, -1, 1, 1).expand(1, len(scores), 2, 2).clone()


def test_the_two_branches_by_hand():
    """Deep scores ln 3 and 0 are probabilities 3/4 and 1/4; fused scores 0 and 0 are halves: ln 2 for any teacher."""
    deep, fused = maps(math.log(3), 0), maps(0, 0)
    found = two_branch_loss(deep, fused, torch.tensor([1]))
    assert float(found["loss1"]) == pytest.approx(math.log(4))
    assert float(found["loss2"]) == pytest.approx(math.log(2))
    assert float(found["loss"]) == pytest.approx((math.log(4) + math.log(2)) / 2)


def test_the_fused_branch_does_not_teach_the_deep_one():
    deep, fused = maps(1, 0).requires_grad_(), maps(0, 2).requires_grad_()
    two_branch_loss(deep, fused, torch.tensor([0]))["loss2"].backward()
    assert deep.grad is None
    assert float(fused.grad.abs().sum()) > 0


def test_one_branch_is_the_labels_cross_entropy():
    assert float(one_branch_loss(maps(math.log(3), 0), torch.tensor([0]))["loss"]) == pytest.approx(math.log(4 / 3))


def test_half_precision_is_averaged_in_float32():
    assert pooled(torch.full((1, 1, 64, 64), 2049.0).half()).dtype == torch.float32
    assert float(pooled(torch.full((1, 1, 64, 64), 2049.0).bfloat16())[0, 0]) == 2048


def test_ignored_pixels_weigh_nothing_and_count_in_the_divisor():
    """Logits 0 cost ln 2 a pixel; two of the four are ignored, so a half of it, or all where they don't count."""
    targets = torch.tensor([[[FOREGROUND, BACKGROUND], [IGNORED, IGNORED]]], dtype=torch.uint8)
    logits = torch.zeros(1, 1, 2, 2)
    assert float(segmentation_loss(logits, targets)["loss"]) == pytest.approx(math.log(2) / 2)
    assert float(segmentation_loss(logits, targets, ignored_in_divisor=False)["loss"]) == pytest.approx(math.log(2))
    assert float(segmentation_loss(logits, targets)["ignored"]) == 0.5
    nothing = segmentation_loss(logits, torch.full_like(targets, IGNORED), ignored_in_divisor=False)
    assert float(nothing["loss"]) == 0
