"""Work of a training beside its steps: checkpoints, a progress bar, the validation error, the final weights."""

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow.compat.v1 as tf
from tqdm import tqdm

from common.system.errors import UserError
from common.system.files import write_text
from common.system.progress import Epoch, above, bar
from dgl_tf import records, weights
from dgl_tf.sessions import tf as _  # noqa: F401, before tensorpack, which asks TensorFlow's mode when it is imported

# isort: split
from tensorpack import PeriodicTrigger
from tensorpack.callbacks import Callback, ModelSaver

BEST, VALIDATION = "min-val-error-top1", "validation.jsonl"
_OF_A_STEP = re.compile(r"(model-\d+)\.(index|data-.*)")
_GRAPH = re.compile(r"graph-\d{4}-\d{6}\.meta(\.tmp[0-9a-f]{32})?")
"""Files that tensorpack writes as each process begins, and what is left of one that was killed as it did."""


class Saver(ModelSaver):
    """tensorpack's, but a failure to write ends the training, and what a stopped training left is deleted in time: of
    its graphs all but this process's.
    """

    def _before_train(self) -> None:
        folder = Path(self.checkpoint_dir)
        for path in list(folder.iterdir()):
            if _GRAPH.fullmatch(path.name) and path.is_file():
                path.unlink()
        with saving(folder):
            super()._before_train()
        state = tf.train.get_checkpoint_state(self.checkpoint_dir)
        kept = [] if state is None else list(state.all_model_checkpoint_paths)
        self.saver.recover_last_checkpoints(kept)
        names = {Path(path).name for path in kept}
        for path in folder.iterdir():
            found = _OF_A_STEP.fullmatch(path.name)
            if ".tempstate" in path.name or (found and path.is_file() and found[1] not in names):
                path.unlink()

    def _trigger(self) -> None:
        with saving(Path(self.checkpoint_dir)):
            self.saver.save(
                tf.get_default_session(), self.path, global_step=tf.train.get_global_step(), write_meta_graph=False
            )


@contextmanager
def saving(folder: Path) -> Iterator[None]:
    """Say in one line that a checkpoint can't be written.

    Raises:
        UserError: it can't be written.
    """
    try:
        yield
    except (OSError, tf.errors.OpError) as error:
        raise UserError(f"the checkpoint can't be written ({weights.first_line(error)})", where=folder,
                        do="make room and give the same command again") from error  # fmt: skip


class Progress(Callback):
    """A progress bar over the whole training, a line an epoch, and a stop where the loss is no longer finite."""

    _chief_only = True

    def __init__(self, epochs: int, folder: Path, batch_size: int):
        self.epochs, self.folder, self.batch_size = epochs, folder, batch_size
        self.bar: Any = None
        self.passed = Epoch()

    def _setup_graph(self) -> None:
        self.fetches = [self.trainer.tower_func.towers.training()[0].get_tensor("xentropy-loss:0")]

    def _before_train(self) -> None:
        steps = self.trainer.steps_per_epoch
        done = (self.trainer.loop.starting_epoch - 1) * steps
        self.bar = bar(total=self.epochs * steps, initial=done, unit="step", desc="training")

    def _before_epoch(self) -> None:
        self.passed = Epoch()

    def _before_run(self, _context: Any) -> tf.train.SessionRunArgs:
        return tf.train.SessionRunArgs(self.fetches)

    def _after_run(self, _context: Any, values: Any) -> None:
        loss = float(values.results[0])
        if not np.isfinite(loss):
            raise UserError(f"the loss is {loss} at step {self.global_step}", where=self.folder,
                            do="lower --base-lr or raise --warmup-steps, and start in another --out")  # fmt: skip
        self.passed.add({"loss": loss}, self.batch_size)
        self.bar.update()
        self.bar.set_postfix(epoch=self.epoch_num, loss=f"{loss:.3f}", refresh=False)

    def _trigger_epoch(self) -> None:
        told = self.passed.told((self.epochs - self.epoch_num) * self.trainer.steps_per_epoch)
        above(self.bar, f"epoch {self.epoch_num} of {self.epochs}: {told}")

    def _after_train(self) -> None:
        if self.bar is not None:  # a stop may come before the first step
            self.bar.close()


class Validated(Callback):
    """Says the validation error, notes it in `validation.jsonl`, and keeps the best network as `min-val-error-top1`.

    It comes before `Saver`: an epoch whose checkpoint is there has been validated, and one that a stopped training had
    not saved is validated again, against the epochs before it.
    """

    _chief_only = True

    def __init__(self, folder: Path):
        self.folder = folder

    def _setup_graph(self) -> None:
        self.saver = tf.train.Saver(tf.global_variables(), max_to_keep=1)

    def _trigger(self) -> None:
        top1, top5 = (float(self.trainer.monitors.get_latest(f"val-error-top{best}")) for best in (1, 5))
        earlier = [line for line in self._lines() if line["epoch"] < self.epoch_num]
        if all(top1 < line["top1"] for line in earlier):
            with saving(self.folder):
                path = str(self.folder / BEST)
                self.saver.save(tf.get_default_session(), path, write_meta_graph=False, write_state=False)
        lines = [*earlier, {"epoch": self.epoch_num, "step": self.global_step, "top1": top1, "top5": top5}]
        write_text(self.folder / VALIDATION, "".join(f"{json.dumps(line)}\n" for line in lines))
        tqdm.write(f"epoch {self.epoch_num}: validation error top-1 {100 * top1:.1f} %, top-5 {100 * top5:.1f} %")

    def _lines(self) -> list[dict[str, float]]:
        path = self.folder / VALIDATION
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()] if path.is_file() else []


class AtEpochs(PeriodicTrigger):
    """Triggers a callback after the epochs named."""

    def __init__(self, callback: Callback, epochs: set[int]):
        super().__init__(callback, every_k_epochs=1)
        self.epochs = epochs

    def _trigger_epoch(self) -> None:
        if self.epoch_num in self.epochs:
            self.cb.trigger()


class Final(Callback):
    """Write the network's variables alone after the last epoch, as `final.npz`, which says that all is done."""

    _chief_only = True

    def __init__(self, model: Any, epochs: int, folder: Path):
        self.model, self.epochs, self.folder = model, epochs, folder

    def _trigger_epoch(self) -> None:
        if self.epoch_num == self.epochs:
            values = tf.get_default_session().run(self.model.network.variables)
            weights.write_npz(self.folder / records.FINAL, values)
