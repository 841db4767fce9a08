"""Shared parts of all four methods: data sets, boxes, protocols, metrics, predictions. No framework is imported."""

import sys

if sys.argv[:1] == ["-m"]:  # `python -m` is looking for one of our commands; imported by other code, nothing happens
    from common.system.errors import end_when_stopped

    end_when_stopped()
