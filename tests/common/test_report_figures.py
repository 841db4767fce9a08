import re

import numpy as np
import pytest

from common.measuring.protocols import PROTOCOLS
from common.report import figures, gallery


def test_an_iou_that_equals_a_place_of_the_plot_reaches_it():
    """The page holds IoUs in single precision, in which 0.7 is a little less."""
    none = np.zeros((1, 4), np.uint16)
    judged = {str(iou): gallery.Verdicts(none, np.array([iou], np.float32), np.ones(1, bool), np.ones(1, bool))
              for iou in gallery.IOU_GRID}  # fmt: skip
    run = gallery.JudgedRun(None, gallery.Measure(PROTOCOLS["bas"], (0.2,), 0, "oracle"), judged)
    assert run.reach() == pytest.approx(100 * np.arange(51, 0, -1) / 51)


def test_long_names_stay_within_a_chart():
    names = ("cam", "dgl mobilenet_v1 Conv2d_11_pointwise @0.355 validation")
    short, long = (figures.Whisker(name, 50.0, 40.0, 60.0) for name in names)
    assert figures.whiskers("bas", [short, long]).count('textLength="304"') == 1
    x = np.array([0.0, 0.5, 1.0])
    drawn = figures.chart("bas", [figures.Curve(name, number, x, 90 * x) for number, name in enumerate(names)])
    assert drawn.count('textLength="304"') == 1
    title = "MaxBoxAcc 2020: images with this IoU or more"
    assert figures.chart(title, [figures.Curve("cam", 0, x, 90 * x)]).count('textLength="304"') == 1


def test_a_chart_names_its_axis_and_an_interval_has_its_runs_colour():
    x = np.array([0.0, 0.5, 1.0])
    assert ">threshold</text>" in figures.chart("bas", [figures.Curve("cam", 0, x, 90 * x)])
    assert ">IoU</text>" in figures.charts("bas", [figures.Curve("cam", 0, x, 90 * x)], across="IoU")[0]
    rows = [figures.Whisker("whole image", 50.0, 40.0, 60.0), figures.Whisker("cam", 50.0, 40.0, 60.0, 2)]
    assert re.findall(r'circle class="dot (\w+)"', figures.whiskers("bas", rows)) == ["plain", "run2"]
