import time

from common.system.progress import Epoch


def test_the_line_of_an_epoch_has_means_speed_and_the_time_left(monkeypatch):
    """Two steps of 8 images took 4 seconds; ten more steps take 20, a hundred more take 200."""
    now = iter([10.0, 14.0, 14.0, 14.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    epoch = Epoch()
    epoch.add({"loss": 2.0, "accuracy": 0.5, "unknown": float("nan")}, 8)
    epoch.add({"loss": 1.0, "accuracy": float("nan")}, 8)
    assert epoch.told(10) == "loss 1.500, accuracy 0.500; 4.0 images/s, 20 s left"
    assert epoch.told(100) == "loss 1.500, accuracy 0.500; 4.0 images/s, 3 min left"
    assert epoch.told(0) == "loss 1.500, accuracy 0.500; 4.0 images/s"


def test_an_earlier_process_s_steps_count_for_means_alone(monkeypatch):
    now = iter([10.0, 14.0])
    monkeypatch.setattr(time, "monotonic", lambda: next(now))
    epoch = Epoch()
    epoch.recall({"loss": 4.0, "unknown": float("nan")})
    epoch.add({"loss": 1.0}, 8)
    assert epoch.told(10) == "loss 2.500; 2.0 images/s, 40 s left"


def test_an_epoch_of_no_step_says_so():
    assert Epoch().told(0) == "no step"
