import copy
import shutil

import pytest
import torch
from torch import nn

from common.pytorch.runtime import compiled, for_training, training_layout


class Classifier(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 5, 1))

    def forward(self, images):
        return self.look(images)[0]

    def look(self, images):
        maps = self.features(images)
        return maps.mean(dim=(2, 3)), maps


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("c++"), reason="torch.compile needs a C++ compiler, c++ is not on PATH")
@pytest.mark.parametrize("method", ["forward", "look"])
def test_a_compiled_network_gives_the_same(method):
    """As commands call it: in eval mode, without gradients, a last batch that is smaller, under mixed precision too."""
    torch.manual_seed(0)
    network = Classifier().to(memory_format=torch.channels_last)
    nn.init.uniform_(network.features[1].running_var, 0.5, 2)
    nn.init.normal_(network.features[1].running_mean)
    plain = getattr(network.eval(), method)
    fast = compiled(network if method == "forward" else network.look)
    with torch.inference_mode():
        for count in (4, 4, 3):
            images = torch.rand(count, 3, 12, 12).to(memory_format=torch.channels_last)
            torch.testing.assert_close(fast(images), plain(images), rtol=1e-4, atol=1e-5)
        with torch.autocast("cpu", torch.bfloat16):
            torch.testing.assert_close(fast(images), plain(images), rtol=0.05, atol=0.05)


def test_batch_norm_of_a_training_on_a_cpu_is_float64s():
    """A step's variance over 32 images to 1e-6 of it, its scores to 1e-5 of theirs; by pixel both are some 1e-4 off."""
    torch.manual_seed(0)
    images, cpu = torch.rand(32, 3, 112, 112), torch.device("cpu")
    network = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4, momentum=1.0))
    exact = copy.deepcopy(network).double().train()
    network = for_training(network, cpu)
    with torch.no_grad():
        expected = exact(images.double())
        found = network(images.contiguous(memory_format=training_layout(cpu)))
    assert float((network[1].running_var / exact[1].running_var - 1).abs().max()) < 1e-6
    assert float((found - expected).abs().max() / expected.std()) < 1e-5
    assert training_layout(torch.device("cuda")) is torch.channels_last
