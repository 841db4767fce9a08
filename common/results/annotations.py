"""The annotations of the images that were predicted on: those that are meant, with the sizes that predictions hold."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from common.datasets import Dataset, DataSource
from common.measuring.plausible import doubts
from common.runs.reader import Places, Predictions
from common.system.errors import UserError, say
from common.system.wording import number_of, some


def annotations_of(
    predictions: Predictions, places: Places, load: Callable[[DataSource], Dataset] = DataSource.load
) -> Dataset:
    """The data set that was predicted on.

    Args:
        predictions: whose manifest says what it was.
        places: of its files that have moved.
        load: reads it; runs of one data set can share a reader that remembers.

    Raises:
        UserError: its files are not where the manifest says, or it has other annotations.
    """
    source = predictions.source_in(places)
    dataset = load(source)
    _refuse_other_annotations(predictions, dataset, source.root)
    return dataset


def _refuse_other_annotations(predictions: Predictions, dataset: Dataset, root: Path) -> None:
    """Refuse (`UserError`) annotations that are not those that were predicted on, and predictions that disagree."""
    directory = predictions.directory
    labels = {sample.image_id: sample.label for sample in dataset}
    if dataset.fingerprint() != predictions.manifest.fingerprint:
        gone = [image_id for image_id in predictions.skipped if image_id not in labels]
        lines = len(predictions.entries) + len(predictions.skipped)
        if not gone or len(labels) != lines - len(gone) or not predictions.manifest.complete:
            raise UserError("the data set's annotations are not those that were predicted on", where=directory,
                            do=f"check {root}, or localize again")  # fmt: skip
        what = number_of(len(gone), "image that was", "images that were")
        say([f"note: {directory}: gone from the data set: {what} left out when localizing, {some(gone, 1)}; its labels "
             "are those that were predicted on, its boxes can't be compared"])  # fmt: skip
    for entry in predictions.entries:
        if entry.image_id not in labels:
            raise UserError(f"{entry.image_id} is not in the data set", where=directory)
        if entry.label != labels[entry.image_id]:
            raise UserError(f"{entry.image_id} has label {entry.label}", where=directory,
                            expected=f"{labels[entry.image_id]}, as the data set has")  # fmt: skip


def with_sizes(dataset: Dataset, predictions: Predictions) -> Dataset:
    """The data set with the sizes that the predictions hold, so that no image need be there to be scored.

    A size that the annotations declare is what their boxes are pixels of, and stays; how often it differs is said.
    """
    sizes = {entry.image_id: entry.size for entry in predictions.entries}
    declared = [sample for sample in dataset if sample.declared_size and sample.image_id in sizes]
    if other := [sample for sample in declared if sample.declared_size != sizes[sample.image_id]]:
        what, ids = number_of(len(other), "image is", "images are"), [sample.image_id for sample in other]
        say([f"note: {predictions.directory}: {what} stored in another size than the annotations declare, "
             f"{some(ids, 1)}; boxes are taken as pixels of the declared size"])  # fmt: skip
        turned = [each.image_id for each in other if each.declared_size == sizes[each.image_id][::-1]]
        if turned:
            say([f"warning: {predictions.directory}: of {len(turned)} of them width and height are exchanged, "
                 f"{some(turned, 1)}: their boxes are compared wrongly if the annotations swap the two, or were made "
                 "on the picture as its EXIF tag turns it"])  # fmt: skip
    samples = (
        sample if sample.declared_size else replace(sample, declared_size=sizes.get(sample.image_id))
        for sample in dataset
    )
    return replace(dataset, samples=tuple(samples))


def doubted(dataset: Dataset, directory: Path, what: str = "true boxes") -> list[str]:
    """Notes on the boxes as a whole, where they may be of another form than they were read as; `what` they are."""
    boxed = [(sample, sample.declared_size) for sample in dataset if len(sample.boxes)]
    sized = [(sample.image_id, sample.boxes, size) for sample, size in boxed if size is not None]
    if not sized:
        return []
    names, boxes, sizes = zip(*sized, strict=True)
    return [f"note: {directory}: {text.replace('true boxes', what)}" for text in doubts(names, boxes, sizes)]
