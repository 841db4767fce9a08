import math

import pytest
import torch

from spol.losses import (
    BACKGROUND,
    FOREGROUND,
    IGNORED,
    classification_loss,
    one_branch_loss,
    pooled,
    segmentation_loss,
    two_branch_loss,
)


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


def test_the_classifier_by_hand():
    """Scores ln 3 and 0 are 3/4 and 1/4: labels 0, 1 and 1 cost ln 4/3, ln 4 and ln 4; the first is right."""
    scores = torch.tensor([[math.log(3), 0.0]]).repeat(3, 1)
    for given in (scores, scores.double()):
        found = classification_loss(given, torch.tensor([0, 1, 1]))
        assert float(found["loss"]) == pytest.approx((math.log(4 / 3) + 2 * math.log(4)) / 3)
        assert float(found["accuracy"]) == pytest.approx(1 / 3)
    assert found["loss"].dtype == torch.float64
    assert classification_loss(scores.bfloat16(), torch.tensor([0, 1, 1]))["loss"].dtype == torch.float32


def test_accuracy_is_the_fused_branchs():
    """Of four images the fused branch has three right, the deep one none."""
    fused = torch.cat([maps(1, 0, 0), maps(0, 0, 1), maps(0, 1, 0), maps(0, 1, 0)])
    labels = torch.tensor([0, 2, 1, 0])
    deep = torch.cat([maps(0, 1, 0), maps(0, 1, 0), maps(0, 0, 1), maps(0, 0, 1)])
    assert float(two_branch_loss(deep, fused, labels)["accuracy"]) == 0.75
    assert float(one_branch_loss(fused, labels)["accuracy"]) == 0.75


def test_half_precision_is_averaged_in_float32():
    assert pooled(torch.full((1, 1, 64, 64), 2049.0).half()).dtype == torch.float32
    assert float(pooled(torch.full((1, 1, 64, 64), 2049.0).bfloat16())[0, 0]) == 2048


def test_foreground_is_what_logits_above_zero_mean():
    """A logit of ln 3 is 3/4: foreground costs ln 4/3 and background ln 4; one pixel of two weighs, or all."""
    logits = torch.full((1, 1, 1, 2), math.log(3))
    for code, cost in ((FOREGROUND, math.log(4 / 3)), (BACKGROUND, math.log(4))):
        targets = torch.tensor([[[code, IGNORED]]], dtype=torch.uint8)
        assert float(segmentation_loss(logits, targets)["loss"]) == pytest.approx(cost / 2)
        assert float(segmentation_loss(logits, targets, ignored_in_divisor=False)["loss"]) == pytest.approx(cost)


def test_ignored_pixels_weigh_nothing_and_count_in_the_divisor():
    """Logits 0 cost ln 2 a pixel; two of the four are ignored, so a half of it, or all where they don't count."""
    targets = torch.tensor([[[FOREGROUND, BACKGROUND], [IGNORED, IGNORED]]], dtype=torch.uint8)
    logits = torch.zeros(1, 1, 2, 2)
    assert float(segmentation_loss(logits, targets)["loss"]) == pytest.approx(math.log(2) / 2)
    assert float(segmentation_loss(logits, targets, ignored_in_divisor=False)["loss"]) == pytest.approx(math.log(2))
    assert float(segmentation_loss(logits, targets)["ignored"]) == 0.5
    nothing = segmentation_loss(logits, torch.full_like(targets, IGNORED), ignored_in_divisor=False)
    assert float(nothing["loss"]) == 0
