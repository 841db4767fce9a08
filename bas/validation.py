"""Measuring a network after an epoch, and keeping the best epoch's weights.

EXT does this on the test split, from its 31st epoch on, and releases the best: an oracle. The same can be done here, it
is said on the screen and beside every later result of the best network, and the last epoch's weights are kept in any
case.
"""

import json
from pathlib import Path

import numpy as np
import torch

from bas.config import Recipe
from bas.inference import BasLocalizer
from bas.network import Network
from common.datasets import DataSource, trained
from common.measuring.metrics import LocalizationEvaluator
from common.measuring.protocols import BAS_EXTENSION
from common.pytorch import checkpoints, distributed
from common.pytorch.data import LocalizationImages, localization_loader
from common.system.errors import UserError
from common.system.files import parse_json, write_text
from common.system.progress import bar

LOG = "validation.jsonl"
BEST = {name: f"best_{name}.pth" for name in ("top1", "gt", "loc")}


class Validation:
    """Called with each epoch's number; writes `validation.jsonl` and `best_top1.pth`, `best_gt.pth`, `best_loc.pth`.

    Accuracy is that of the protocol `bas-extension` at the recipe's threshold, on centre crops, with their scores as
    the classifier; `best_loc` is the best sum of Top-1 and GT-known.

    Args:
        source: the split to measure on.
        network: as it is being trained.
        settings: top-k and threshold.
        first_epoch: the first to measure after, counted from 1.
        folder: the training's.
        device, workers: as for training.
        side: of the images that the network sees: the training's crop, as `localize` takes it from the checkpoint.
    """

    def __init__(
        self,
        source: DataSource,
        network: Network,
        settings: Recipe,
        first_epoch: int,
        folder: Path,
        device: torch.device,
        workers: int,
        side: int,
    ):
        self.dataset = source.load()
        self.samples = self.dataset.samples
        if not any(len(sample.boxes) for sample in self.samples):
            raise UserError(f"none of the {len(self.samples)} images to validate on has a ground-truth box",
                            where=source.root, do="name their boxes, or train with --validate no")  # fmt: skip
        self.network, self.settings, self.first_epoch, self.folder = network, settings, first_epoch, folder
        self.device, self.workers, self.side = device, workers, side
        self.counted = len(self.samples)
        if source.split == "test" and distributed.rank() == 0:
            print("note: the best epoch is chosen on the test split, so its figures are an oracle's")

    def __call__(self, epoch: int) -> None:
        """Validate after epoch number `epoch`, counted from 1."""
        if epoch >= self.first_epoch and distributed.rank() == 0:
            found = {"epoch": epoch, **self.measure()}
            earlier = self._earlier(epoch)
            trained.note_chosen(self.folder, list(BEST.values()), self.dataset)
            for name, file in BEST.items():
                if all(found[name] > other[name] for other in earlier):
                    checkpoints.write(self.folder / file, self._content(found))
            lines = [json.dumps(line) for line in (*earlier, found)]
            write_text(self.folder / LOG, "".join(f"{line}\n" for line in lines))
            missing = len(self.samples) - self.counted
            told = f" (over all {len(self.samples)} images, {missing} unreadable as misses)" if missing else ""
            print(f"epoch {epoch}: Top-1 {found['top1']:.2f}, GT-known {found['gt']:.2f}{told}")
        distributed.wait_for_all()

    def _earlier(self, epoch: int) -> list[dict[str, float]]:
        if not (self.folder / LOG).is_file():
            return []
        try:
            lines = [parse_json(line) for line in (self.folder / LOG).read_text(encoding="utf-8").splitlines()]
            return [line for line in lines if line["epoch"] < epoch]
        except (ValueError, KeyError, TypeError) as error:
            raise UserError(f"not a log of validations ({error})", where=self.folder / LOG,
                            do="delete it; the best epoch is then chosen among those to come") from error  # fmt: skip

    def _content(self, found: dict[str, float]) -> dict:
        step = checkpoints.latest_step(self.folder)
        assert step is not None  # the epoch's own
        return {"config": {**step["config"], "chosen": found}, "model": self.network.state_dict()}

    @torch.inference_mode()
    def measure(self) -> dict[str, float]:
        """Top-1 (`top1`), GT-known (`gt`) and their sum (`loc`), in percent; unreadable images are misses."""
        self.network.eval()
        localizer = BasLocalizer(self.network, self.settings.top_k)
        evaluator = LocalizationEvaluator(BAS_EXTENSION, [self.settings.threshold])
        images = LocalizationImages(self.samples, [BAS_EXTENSION.frame], 1, side=self.side)
        loader = localization_loader(images, 32, self.workers)
        for items in bar(loader, total=len(loader), desc="validating", unit="batch"):
            usable = [item for item in items if not item.problem]
            if not usable:
                continue
            scores, features = localizer.look(torch.stack([item.views[0] for item in usable]).to(self.device))
            labels = torch.tensor([item.sample.label for item in usable], device=self.device)
            maps = localizer.maps(features, scores, labels).float().cpu().numpy()
            for item, raw, best in zip(
                usable, maps, scores.topk(min(5, scores.shape[1])).indices.tolist(), strict=True
            ):
                localization_map = localizer.enlarge(raw, item.frames[0].size)
                evaluator.accumulate(localization_map, item.frames[0], item.sample.boxes, item.sample.label, best)
        result = evaluator.compute()
        self.counted = evaluator.seen
        share = evaluator.seen / len(self.samples)
        top1, gt = (float(np.nan_to_num(values[0, 0])) * share for values in (result.top1, result.gt_known))
        return {"top1": top1, "gt": gt, "loc": top1 + gt}
