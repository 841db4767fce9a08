"""Localization maps of any PyTorch classifier, without training: CAM, Grad-CAM, dual gradients (DGL), refined (GRCAM).

    from common.pytorch import maps

    mapper = maps.Mapper(model, layers=("layer3",))        # model in eval mode, images normalized as it wants them
    found = mapper(images)                                 # the predicted class's; or mapper(images, labels)
    found.scores, found.maps["dgl", "layer3"]              # (N, K), and (N, h, w), not stretched

A layer is a module by its name, a number counted from the last map down (0 is the last), or `all`; `maps.layers` lists
them. Every map is a function of three tensors of a layer, which one forward pass and two backward passes give for all
layers and images at once (`evidence`): S its features, D = J^T y and G = J^T (p - alpha y), where J = dz / dS, z are
the scores, p = softmax(z) and y is the one-hot class.
"""

from common.pytorch.maps.evidence import ALPHA, GRADIENTS, Evidence, best_classes, evidence
from common.pytorch.maps.layers import Layer, layers
from common.pytorch.maps.mapper import METHODS, Found, Mapper
from common.pytorch.maps.reshape import channels_last, tokens

__all__ = [
    "ALPHA", "GRADIENTS", "METHODS", "Evidence", "Found", "Layer", "Mapper", "best_classes", "channels_last",
    "evidence", "layers", "tokens",
]  # fmt: skip
