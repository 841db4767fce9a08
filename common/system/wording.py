"""Words of messages: numbers with what they count, names of the first of many, values cut short."""

import json
from collections.abc import Sequence
from typing import Any


def number_of(number: int, one: str, many: str) -> str:
    """A number and the words that fit it: "1 image is", "3 images are"; "1 of 6 images has" with "of 6 images has"."""
    return f"{number} {one if number == 1 else many}"


def some(names: Sequence[str], shown: int = 3) -> str:
    """The first names, and how many more there are: "a, b, c and 4 more"; with `shown` 1, "a and 6 more"."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return f"{', '.join(names[:shown])}{more}"


def apart(stored: Any, value: Any) -> str:
    """Two values as `A, not B`; of two records the entries that differ alone."""
    if isinstance(stored, dict) and isinstance(value, dict):
        differing = (key for key in stored.keys() | value.keys() if stored.get(key) != value.get(key))
        keys = sorted(differing, key=str)
        stored, value = ({key: each.get(key) for key in keys} for each in (stored, value))
    return f"{shorten(stored)}, not {shorten(value)}"


def shorten(value: Any) -> str:
    """A value as JSON, cut to what a message can hold."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 120 else f"{text[:117]}..."
