"""GRCAM in two frameworks: one MobileNetV1's features, and the closed form against PyTorch's autograd."""

import numpy as np
import pytest

pytest.importorskip("tensorflow")
torch = pytest.importorskip("torch")

from common.pytorch import backbones, checkpoints  # noqa: E402
from common.pytorch.data import channels_first, normalized  # noqa: E402
from grcam.classifier import Classifier  # noqa: E402
from grcam.config import GRADIENTS  # noqa: E402
from grcam.from_cam import FromCam, convert  # noqa: E402
from tests import fill  # noqa: E402
from tests.bas.filled import fill_network  # noqa: E402
from tests.grcam import reference  # noqa: E402


@pytest.mark.slow
def test_one_mobilenet_in_two_frameworks(tmp_path):
    """Features and scores 1e-4 of the greatest; through a checkpoint of common.pytorch.cam and grcam.from_cam."""
    model = backbones.build("mobilenet_v1", 5, pretrained=False).eval()
    with torch.no_grad():
        fill_network(model, 0, 2.0)
    config = {"method": "cam", "architecture": "mobilenet_v1", "class_names": list("abcde")}
    checkpoints.write(tmp_path / "final.pth", {"config": config, "model": model.state_dict()})
    classifier = Classifier("mobilenetv1", convert(FromCam(tmp_path / "final.pth", tmp_path / "a.npz")))
    images = fill.batch(2, 224, 224, 7)
    with torch.no_grad():
        expected = model(normalized(channels_first(images), model.mean, model.std, torch.device("cpu")))
    tensors = [classifier.network.features, classifier.logits]
    features, scores = classifier.session.run(tensors, {classifier.images: images.astype(np.float32)})
    theirs = expected.features.permute(0, 2, 3, 1).numpy()
    np.testing.assert_allclose(features, theirs, rtol=0, atol=1e-4 * np.abs(theirs).max())
    np.testing.assert_allclose(scores, expected.scores, rtol=0, atol=1e-4 * float(expected.scores.abs().max()))


@pytest.mark.parametrize("kind", GRADIENTS)
def test_closed_form_is_autograds(kind):
    """1e-9 in float64. PyTorch's cross-entropy with labels that sum to ten gives the exact derivative (quirk Q1)."""
    generator = torch.Generator().manual_seed(0)
    features = torch.rand(2, 5, 4, 6, generator=generator, dtype=torch.float64, requires_grad=True)
    weights = torch.randn(6, 3, generator=generator, dtype=torch.float64)
    labels = torch.tensor([2, 0])
    scores = features.mean(dim=(1, 2)) @ weights
    target = 10 * torch.nn.functional.one_hot(labels, 3).double()
    if kind == "true":
        loss = torch.nn.functional.cross_entropy(scores, target, reduction="sum")
        (gradient,) = torch.autograd.grad(loss, features)
    else:
        (gradient,) = torch.autograd.grad(scores, features, scores.detach().softmax(dim=1) - target)
    norms = gradient.pow(2).sum(dim=(1, 2, 3), keepdim=True).sqrt()
    gate = features.detach().sigmoid()
    mask = gate / gate.pow(2).sum(dim=(1, 2, 3), keepdim=True).sqrt() - gradient / norms
    expected = torch.einsum("nhwc,cn->nhw", features.detach() * mask, weights[:, labels])
    arrays = [value.detach().numpy() for value in (features, scores, weights)]
    found = reference.refined_map(*arrays, labels.numpy(), kind)
    np.testing.assert_allclose(found, expected, rtol=1e-9, atol=1e-12)
