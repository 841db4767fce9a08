"""Choice of the held-out predictions that set the thresholds of a run."""

from collections.abc import Sequence
from typing import Any, Protocol, TypeVar

from common.runs.reader import Predictions
from common.system.errors import say
from common.system.wording import shorten

_OF_NO_MAP = {"threshold", "maps", "classes"}
"""Options that leave a map as it is: of the stored box, of where maps are stored, of the classes' numbers."""


def same_model(one: Predictions, other: Predictions) -> bool:
    """Whether two directories are of one method, architecture, frame and checkpoint."""
    manifests = one.manifest, other.manifest
    first, second = ((each.method, each.architecture, each.frame, each.sha256) for each in manifests)
    return first == second


class HasPredictions(Protocol):
    """Whatever holds predictions: its thresholds, maps or scores were found on them."""

    @property
    def predictions(self) -> Predictions:
        """The predictions."""


Held = TypeVar("Held", bound=HasPredictions)


def held_of(run: Predictions, held: Sequence[Held]) -> Held | None:
    """The held-out predictions of a run's model: those made with its options, or else the first; None without any.

    What their maps were made with that the run's were not, and others that could be meant, are said in a note.
    """
    of_model = [each for each in held if same_model(run, each.predictions)]
    alike = [each for each in of_model if not _other_options(run, each.predictions)]
    if not of_model:
        return None
    chosen = (alike or of_model)[0]
    notes = [f"thresholds are chosen on maps made with {text}" for text in _other_options(run, chosen.predictions)]
    directory = chosen.predictions.directory
    if rest := [str(each.predictions.directory) for each in alike[1:] if each.predictions.directory != directory]:
        notes.append(f"thresholds are chosen on {directory}, not on {', '.join(rest)}")
    say(f"note: {run.directory}: {note}" for note in notes)
    return chosen


def _other_options(run: Predictions, held: Predictions) -> list[str]:
    """`gradient "true", not "released"` for each option of the maps that differs."""
    theirs, ours = (_of_maps(each.manifest.options) for each in (held, run))
    names = sorted(theirs.keys() | ours.keys())
    return [f"{name} {shorten(theirs.get(name, 'off'))}, not {shorten(ours.get(name, 'off'))}"
            for name in names if theirs.get(name) != ours.get(name)]  # fmt: skip


def _of_maps(options: dict[str, Any]) -> dict[str, Any]:
    """Options that are set and make maps what they are; an older manifest may lack one that is off."""
    return {name: value for name, value in options.items()
            if name not in _OF_NO_MAP and value is not None and value is not False}  # fmt: skip
