"""`manifest.json`: what a run says of itself, and the names under which everybody reads it."""

from pathlib import Path
from typing import Any

from common.datasets import DESCRIBED, DataSource
from common.system.errors import UserError
from common.system.wording import shorten

MANIFEST = "manifest.json"
FORMAT = 1
_KINDS = {
    "method": str, "architecture": str, "data": dict, "checkpoint": dict, "classifier": dict | None, "frame": str,
    "options": dict, "processes": list, "counts": dict,
}  # fmt: skip
"""Types of the entries, where they are there."""


class Manifest(dict[str, Any]):
    """The entries of a manifest as they stand in its file, `method`, `architecture`, `data` and so on.

    Its properties are what others ask of it. One whose entry isn't there is None, an empty record or an empty text:
    other people's code and older versions of ours write fewer entries. `Predictions.need` refuses to go on without.
    """

    @classmethod
    def checked(cls, entries: Any, where: Path) -> "Manifest":
        """A manifest of what its file holds.

        Raises:
            UserError: it is no manifest, or an entry is of another kind than ours.
        """
        if not isinstance(entries, dict) or entries.get("format") != FORMAT:
            raise UserError("not a manifest of predictions", where=where, expected=f'"format": {FORMAT}')
        for name, kind in _KINDS.items():
            if name in entries and not isinstance(entries[name], kind):
                expected = getattr(kind, "__name__", str(kind))
                raise UserError(f"{name} is {shorten(entries[name])}", where=where, expected=expected)
        if not all(isinstance(process, dict) for process in entries.get("processes", [])):
            raise UserError(f"processes is {shorten(entries['processes'])}", where=where, expected="a list of records")
        return cls(entries)

    @property
    def complete(self) -> bool:
        """Whether the run has finished."""
        return bool(self.get("complete"))

    @property
    def method(self) -> str:
        """The method's name."""
        return str(self.get("method", ""))

    @property
    def architecture(self) -> str:
        """The network's name."""
        return str(self.get("architecture", ""))

    @property
    def frame(self) -> str:
        """The kind of frame, one of `common.measuring.geometry.FRAMES`; of a segmentation `original`."""
        return str(self.get("frame", ""))

    @property
    def options(self) -> dict[str, Any]:
        """The method's options."""
        return dict(self.get("options", {}))

    @property
    def classifier(self) -> dict[str, Any]:
        """The classifier whose classes the lines hold; empty where nobody classified."""
        return dict(self.get("classifier") or {})

    @property
    def checkpoint(self) -> dict[str, Any]:
        """The network's file."""
        return dict(self.get("checkpoint", {}))

    @property
    def sha256(self) -> str | None:
        """The checkpoint's sha256, None where it has none."""
        return self.checkpoint.get("sha256")

    @property
    def training(self) -> dict[str, Any]:
        """The checkpoint's training, `seed` and `recipe` among it; empty where the checkpoint doesn't tell it."""
        told = self.checkpoint.get("training")
        return told if isinstance(told, dict) else {}

    @property
    def data(self) -> dict[str, Any]:
        """The images: fields of a `DataSource`, and `DESCRIBED`."""
        return dict(self.get("data", {}))

    @property
    def split(self) -> str | None:
        """The split of the images."""
        return self.data.get("split")

    @property
    def fingerprint(self) -> str | None:
        """The images' fingerprint, which `Dataset.fingerprint` gives."""
        return self.data.get("fingerprint")

    @property
    def shard(self) -> str | None:
        """The part of the split that was localized, such as `2/8`; None for all of it."""
        return self.data.get("shard")

    @property
    def trained_images(self) -> dict[str, Any] | None:
        """Those of the images that were trained on; see `common.datasets.trained`."""
        return self.data.get("trained_images")

    @property
    def training_steps(self) -> list[Any]:
        """Steps of the trainings behind the run, None for each that is unknown."""
        told = self.data.get("training_steps")
        return told if isinstance(told, list) else []

    @property
    def processes(self) -> list[dict[str, Any]]:
        """The processes that wrote the run; see `common.runs.provenance`."""
        return list(self.get("processes", []))

    @property
    def counts(self) -> dict[str, Any]:
        """Number of images `scored`, `skipped` by reason, and of maps `changed` by what was changed."""
        return dict(self.get("counts", {}))

    @property
    def lines(self) -> int | None:
        """Number of lines that it counts: images scored and skipped; None where it does not say."""
        skipped = self.counts.get("skipped")
        numbers = [self.counts.get("scored"), *(skipped.values() if isinstance(skipped, dict) else [])]
        return sum(numbers) if all(type(number) is int for number in numbers) else None

    def source(self, where: Path) -> DataSource:
        """The images that were predicted on.

        Args:
            where: the run's folder, for messages.

        Raises:
            UserError: the manifest doesn't say, or not readably.
        """
        if "data" not in self:
            raise UserError("the manifest does not say what was predicted on", where=where)
        fields = {name: value for name, value in self.data.items() if name not in DESCRIBED}
        return DataSource.from_json(fields, where)
