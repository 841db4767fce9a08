"""Training images: crops against recorded ones, the order in which they come, and readers that end."""

import os
import signal
from itertools import islice

import numpy as np
import pytest
import tensorflow.compat.v1 as tf
from PIL import Image

from common.datasets import DataSource, Sample
from common.system.errors import UserError
from dgl_tf import dataflow, processes, registry
from dgl_tf.dataflow import Repeatable, cropped, training_flow, validation_flow
from tests import small_cub
from tests.dgl_tf.filled import golden


@pytest.fixture(scope="module")
def samples(tmp_path_factory):
    return DataSource("cub", small_cub.make(tmp_path_factory.mktemp("data") / "CUB"), "train").load().samples


def test_crops_are_the_recorded_ones():
    recorded, size = golden("dataflow"), int(golden("dataflow")["size"])
    for number in range(3):
        image = recorded[f"img{number}_bgr"]
        for kind in ("val", "train"):
            top, left, flip = recorded[f"img{number}_{kind}_y0_x0_flip"]
            expected = recorded[f"img{number}_{kind}_out"].astype(int)
            assert np.abs(cropped(image, size, top, left, bool(flip)).astype(int) - expected).max() <= 1


def test_input_is_the_recorded_one():
    recorded = golden("dataflow")
    with tf.Graph().as_default(), tf.Session() as session:
        found = session.run(registry.normalized(tf.constant(recorded["img0_val_out"][None])))[0]
    np.testing.assert_allclose(found[::8, ::8], recorded["img0_net_input_sub8"], atol=1e-5)
    np.testing.assert_allclose(found.sum(axis=(0, 1)), recorded["img0_net_input_sum"], rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_a_killed_reader_ends_the_data(samples, workers):
    flow = training_flow(samples, 32, 4, workers, seed=0)
    flow.reset_state()
    batches = iter(flow)
    next(batches)
    os.kill(flow.ds._procs[-1].pid, signal.SIGKILL)
    with pytest.raises(UserError, match="a process that reads images was killed; expected enough memory"):
        list(islice(batches, 1000))


@pytest.mark.slow
def test_a_reader_that_fails_without_a_word_ends_the_data(samples, monkeypatch):
    """tensorpack's worker sends what was raised and ends, and its socket may drop the message."""
    monkeypatch.setattr(dataflow, "augmented", lambda *_: os._exit(3))
    flow = training_flow(samples, 32, 4, 1, seed=0)
    flow.reset_state()
    with pytest.raises(RuntimeError, match="ended with status 3"):
        next(iter(flow))


@pytest.mark.slow
def test_repeatable_flow_starts_anywhere(samples):
    flow = training_flow(samples, 32, 4, 0, seed=3)
    flow.reset_state()
    shown = iter(flow)
    first, second = next(shown), next(shown)
    later = iter(Repeatable(samples, 32, seed=3, start=4))
    assert [label for _, label in (next(later) for _ in range(4))] == list(second[1])
    assert first[0].shape == (4, 32, 32, 3)
    assert sorted(np.concatenate([first[1], second[1][:2]])) == sorted(sample.label for sample in samples)


@pytest.mark.slow
def test_processes_share_the_images_in_turns(samples):
    """The batches of two processes, one after the other, are those of one that is alone."""
    shares = [processes.ALONE, processes.Share(0, 2), processes.Share(1, 2)]
    flows = [training_flow(samples, 32, 3, 0, seed=3, start=3, share=share) for share in shares]
    for flow in flows:
        flow.reset_state()
    alone, first, second = map(iter, flows)
    for source in (first, second, first, second):
        for found, expected in zip(next(source), next(alone), strict=True):
            np.testing.assert_array_equal(found, expected)


def test_exif_turns_training_images_where_told(tmp_path):
    """Orientation 6: the left half of the stored picture is the upper half of the upright one; told or not, by workers too."""
    exif = Image.Exif()
    exif[0x0112] = 6
    pixels = np.zeros((64, 64, 3), np.uint8)
    pixels[:, :32] = 255
    Image.fromarray(pixels).save(tmp_path / "turned.png", exif=exif)
    samples = [Sample("turned.png", tmp_path / "turned.png", 0)]
    for turn in (False, True):
        flow = validation_flow(samples, 64, 1, *([turn] if turn else []))
        flow.reset_state()
        ((images, _),) = flow
        upper_right, lower_left = images[0, 4, -4, 0], images[0, -4, 4, 0]
        assert (upper_right, lower_left) == ((255, 0) if turn else (0, 255))
        seen = dataflow.Repeatable(samples, 64, seed=0, turn_by_exif=turn), dataflow.Shuffled(samples, 64, turn)
        for source in seen:
            source.reset_state()
            shown, _ = next(iter(source))  # mirrored or not, rows of one colour are those of the upright picture
            assert bool((shown == shown[:, :1]).all()) is turn


@pytest.mark.slow
def test_validation_flow_shows_each_image_once(samples):
    flow = validation_flow(samples, 32, 4)
    flow.reset_state()
    assert [len(labels) for _, labels in flow] == [4, 2]
