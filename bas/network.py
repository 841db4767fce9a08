"""The method: what a BAS network computes in a training step and in inference, whatever its backbone.

A classifier is cut in two: the extractor f1 (`extract`) gives features F at stride 8, and f2 (`classify`) turns them
into class maps, whose mean is the score vector. One convolution on F, the generator, gives each class a foreground map.
`Network.forward` makes a training step's passes, `Network.localize` those that inference needs. State dicts have the
released checkpoints' keys; f2's second, frozen pass takes f2's own weights without a gradient, so there are no copies.
The four classifiers are in `bas.backbones`.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from bas.config import Variant

HEAD_WIDTH = 1024


class Output(NamedTuple):
    """Result of a pass for B images and C classes.

    Attributes:
        scores: s (B, C).
        foreground_map: M_fg (B, 1, H / 8, W / 8) in [0, 1].
        features: F (B, channels, H / 8, W / 8).
        class_maps: (B, C, H / 16, W / 16), whose mean is `scores`.
        guided_scores: s_frg (B, C), the scores under the foreground map; None from `localize`.
        activation: S (B,), the label's score; None from `localize`.
        background_activation: S_bg (B,), the label's score with the foreground suppressed; None from `localize`.
    """

    scores: Tensor
    foreground_map: Tensor
    features: Tensor
    class_maps: Tensor
    guided_scores: Tensor | None = None
    activation: Tensor | None = None
    background_activation: Tensor | None = None

    def of_step(self) -> tuple[Tensor, Tensor, Tensor]:
        """`guided_scores`, `activation` and `background_activation`, as a training step has them.

        Raises:
            ValueError: there are none, as from `localize`.
        """
        if self.guided_scores is None or self.activation is None or self.background_activation is None:
            raise ValueError("the output of localize has no losses")
        return self.guided_scores, self.activation, self.background_activation


class CutInTwo(nn.Module):
    """Classifier cut in two: f1 gives features F, f2 turns them into class maps, and runs frozen as well.

    A subclass brings `extract` and `second_half`, and calls `_keep_second_half` once its layers are there.
    """

    SECOND_HALF: tuple[str, ...] = ()
    """Beginnings of the names of f2's parameters, the head's apart."""
    head_name = "classifier_cls"

    def _keep_second_half(self) -> None:
        self._half = (SecondHalf(self),)  # in a tuple, since a module's attribute would be a child of its own child

    def extract(self, images: Tensor) -> Tensor:
        """f1: normalized RGB images (B, 3, H, W) to F."""
        raise NotImplementedError

    def second_half(self, features: Tensor) -> Tensor:
        """Turn F, or F masked, into what the head sees."""
        raise NotImplementedError

    def classify(self, features: Tensor) -> Tensor:
        """f2: F to class maps (B, C, h, w)."""
        return getattr(self, self.head_name)(self.second_half(features))

    def classify_frozen(self, features: Tensor) -> Tensor:
        """f2 with frozen weights; see `SecondHalf.frozen`."""
        return self._half[0].frozen(features)


class Network(CutInTwo):
    """Shared part of the four networks. A subclass brings `extract` and `second_half`.

    Args:
        variant: says whether the head ends in a ReLU.
        num_classes: C.
        tap_channels: of F.
        head_channels: of what the head sees.
        head_name: the head's name in the state dict.
    """

    def __init__(
        self,
        variant: Variant,
        num_classes: int,
        tap_channels: int,
        head_channels: int,
        head_name: str = "classifier_cls",
    ):
        super().__init__()
        self.variant, self.num_classes, self.head_name = variant, num_classes, head_name
        head = nn.Sequential(
            nn.Conv2d(head_channels, HEAD_WIDTH, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(HEAD_WIDTH, HEAD_WIDTH, 3, padding=1),
            nn.ReLU(inplace=True),
            nn.Conv2d(HEAD_WIDTH, num_classes, 1),
        )
        if variant.head_relu:
            head.append(nn.ReLU())
        self.add_module(head_name, head)
        self.classifier_loc = nn.Sequential(nn.Conv2d(tap_channels, num_classes, 3, padding=1), nn.Sigmoid())
        self._keep_second_half()

    def forward(self, images: Tensor, labels: Tensor, top_k: int | None = None) -> Output:
        """The passes of a training step: clean, under the foreground map, and with the foreground suppressed.

        Args:
            images: (B, 3, H, W), normalized RGB.
            labels: (B,) 0-based classes.
            top_k: None takes the label's foreground map, as training does; k the mean of the k best classes' maps.
        """
        clean = self.localize(images, labels, top_k)
        pooled = halved(clean.foreground_map, clean.class_maps)
        suppressed = self.classify_frozen(clean.features.detach() * (1 - clean.foreground_map))
        return clean._replace(
            guided_scores=(clean.class_maps * pooled).mean(dim=(2, 3)),
            activation=_of_label(clean.scores, labels),
            background_activation=_of_label(suppressed.mean(dim=(2, 3)), labels),
        )

    def localize(self, images: Tensor, labels: Tensor | None = None, top_k: int | None = None) -> Output:
        """The clean pass alone: scores and the foreground map.

        Args:
            images: (B, 3, H, W), normalized RGB.
            labels: (B,), needed where `top_k` is None.
            top_k: None for the label's map, else the mean of the maps of the k best-scoring classes; equal scores, such
                as the many zeros that a ReLU leaves, are taken in the classes' order.
        """
        features = self.extract(images)
        class_maps = self.classify(features)
        scores = class_maps.mean(dim=(2, 3))
        return Output(scores, self.foreground_map(features, scores, labels, top_k), features, class_maps)

    def look(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Scores and features alone."""
        features = self.extract(images)
        return self.classify(features).mean(dim=(2, 3)), features

    def foreground_map(self, features: Tensor, scores: Tensor, labels: Tensor | None, top_k: int | None) -> Tensor:
        """M_fg (B, 1, h, w) of features; the arguments are those of `localize`."""
        if top_k is None:
            if labels is None:
                raise ValueError("the label's map needs labels")
            return self._map_of(features, labels)
        return self._mean_map(features, scores.sort(dim=1, descending=True, stable=True).indices[:, :top_k])

    def _map_of(self, features: Tensor, labels: Tensor) -> Tensor:
        """The generator's map of one class an image, (B, 1, h, w), without computing the other classes'.

        A 3 x 3 convolution with one output channel is nine dot products over channels, added up where they belong.
        The other classes' weights get a gradient of zeros, not None, so that they decay and keep their momentum. A
        product picks the label's: its gradient is summed in one order, that of `weight[labels]` as threads come.
        """
        generator: Any = self.classifier_loc[0]
        height, width = features.shape[2:]
        picked = F.one_hot(labels, self.num_classes).to(generator.weight.dtype) @ generator.weight.flatten(1)
        weights = picked.view(len(labels), -1, 9).flip(2)  # (B, channels, 9), turned round for `fold`
        products = torch.einsum("bcp,bck->bkp", features.flatten(2), weights)
        sums = F.fold(products, (height, width), kernel_size=3, padding=1)
        return torch.sigmoid(sums + generator.bias[labels].view(-1, 1, 1, 1))

    def _mean_map(self, features: Tensor, classes: Tensor) -> Tensor:
        """The mean (B, 1, h, w) of the generator's maps of several classes (B, k) an image."""
        maps = self.classifier_loc(features)
        if classes.shape[1] < self.num_classes:
            maps = maps.gather(1, classes[:, :, None, None].expand(-1, -1, *maps.shape[2:]))
        return maps.mean(dim=1, keepdim=True)

    def every_map(self, features: Tensor) -> Tensor:
        """The generator's maps of all classes, (B, C, h, w)."""
        return self.classifier_loc(features)


class SecondHalf(nn.Module):
    """The second half f2 of a network as a module of its own, which `functional_call` runs with other values.

    Args:
        network: whose f2, with `classify`, `SECOND_HALF` and `head_name`; parameters and buffers are the network's
            own, named `network.*`.
    """

    network: CutInTwo

    def __init__(self, network: CutInTwo):
        super().__init__()
        self.network = network

    def forward(self, features: Tensor) -> Tensor:
        """Turn F into class maps."""
        return self.network.classify(features)

    def frozen(self, masked: Tensor) -> Tensor:
        """f2's class maps of masked features, with a gradient to the features but none to f2.

        In training, batch norm looks at the masked batch and its running statistics stay as they are.
        """
        own = tuple(f"network.{name}" for name in (*self.network.SECOND_HALF, self.network.head_name))
        state = {name: value.detach() for name, value in self.named_parameters() if name.startswith(own)}
        state |= {name: value.clone() for name, value in self.named_buffers() if name.startswith(own)}
        return functional_call(self, state, (masked,))


def halved(maps: Tensor, like: Tensor) -> Tensor:
    """Means of windows of 2 x 2 on the grid of class maps.

    Of an odd number of rows or columns the last one is left out where f2 begins with a pool, which leaves it out too
    (VGG, ResNet). Strided convolutions keep it: there it is a window of its own. The release has even numbers alone.
    """
    rounded_up = [-(-side // 2) for side in maps.shape[2:]]
    return F.avg_pool2d(maps, 2, ceil_mode=list(like.shape[2:]) == rounded_up)


def _of_label(scores: Tensor, labels: Tensor) -> Tensor:
    return scores.gather(1, labels[:, None])[:, 0]
