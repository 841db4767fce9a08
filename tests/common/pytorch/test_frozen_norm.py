"""Batch norm with frozen statistics gives PyTorch's values, and its gradients by the input."""

import pytest

torch = pytest.importorskip("torch")

import torch.nn.functional as F  # noqa: E402
from torch import nn  # noqa: E402

from common.pytorch.maps import frozen_norm  # noqa: E402
from common.pytorch.maps.frozen_norm import FrozenNorm  # noqa: E402


def filled(norm):
    generator = torch.Generator().manual_seed(0)
    for name, values in (*norm.named_parameters(), *norm.named_buffers()):
        if values.is_floating_point():
            values.data.copy_(torch.rand(values.shape, generator=generator) + ("var" in name))
    return norm.eval().requires_grad_(False)


def by_both(run, shape, dtype=torch.float32):
    """Values, and the gradient by the input of a random sum of them, without the mode and in it."""
    generator = torch.Generator().manual_seed(1)
    values, weights = (torch.randn(shape, generator=generator).to(dtype) for _ in range(2))
    found = []
    for mode in (False, True):
        given = values.clone().requires_grad_()
        if mode:
            with FrozenNorm():
                output = run(given)
            assert output.grad_fn is not None
            assert "_Scaled" in output.grad_fn.name()
        else:
            output = run(given)
        found += [output.detach(), torch.autograd.grad(output, given, weights)[0]]
    return found


@pytest.mark.parametrize(("norm", "shape"), [
    (nn.BatchNorm2d(5), (3, 5, 4, 6)), (nn.BatchNorm2d(5, affine=False), (1, 5, 1, 7)),
    (nn.BatchNorm1d(5, eps=0.5), (4, 5)), (nn.BatchNorm1d(5), (2, 5, 9)), (nn.BatchNorm3d(5), (2, 5, 2, 3, 2)),
])  # fmt: skip
def test_values_and_gradients_are_pytorchs(norm, shape):
    value, gradient, again, other = by_both(filled(norm), shape)
    assert torch.equal(value, again)
    torch.testing.assert_close(other, gradient, rtol=1e-6, atol=1e-7)


def test_half_precision_keeps_its_type():
    """bfloat16 holds 8 binary digits: PyTorch rounds once, after the product in float32."""
    value, gradient, again, other = by_both(filled(nn.BatchNorm2d(5)), (2, 5, 4, 4), torch.bfloat16)
    assert (again.dtype, other.dtype) == (torch.bfloat16, torch.bfloat16)
    assert torch.equal(value, again)
    torch.testing.assert_close(other.float(), gradient.float(), rtol=2**-7, atol=1e-6)


def test_what_is_another_computation_is_pytorchs(monkeypatch):
    """In training, or with weights that want gradients; and where no gradient is wanted there is nothing to save."""
    monkeypatch.setattr(frozen_norm._Scaled, "apply", lambda *_: pytest.fail("another computation"))
    norm, images = filled(nn.BatchNorm2d(3)), torch.ones(2, 3, 4, 4)
    with FrozenNorm():
        norm(images)
        norm.requires_grad_(True)(images.clone().requires_grad_()).sum().backward()
        norm.train()(images.clone().requires_grad_())
        F.batch_norm(images.clone().requires_grad_(), None, None, training=True)
        assert F.relu(images).sum() == 96
    assert norm.weight.grad is not None


def test_another_modules_batch_norm_is_met():
    """Functional calls, with statistics by keyword."""
    mean, variance = torch.tensor([1.0, 2.0]), torch.tensor([4.0, 9.0])

    def run(values):
        return F.batch_norm(values, running_mean=mean, running_var=variance, eps=0.0)

    _, gradient, _, other = by_both(run, (1, 2, 3, 3))
    torch.testing.assert_close(other, gradient, rtol=1e-6, atol=0)
