import shutil

import pytest
import torch
from torch import nn

from common.pytorch.runtime import compiled


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
