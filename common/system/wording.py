"""Words of messages: numbers with what they count, and names of the first of many."""

from collections.abc import Sequence


def number_of(number: int, one: str, many: str) -> str:
    """A number and the words that fit it: "1 image is", "3 images are"; "1 of 6 images has" with "of 6 images has"."""
    return f"{number} {one if number == 1 else many}"


def some(names: Sequence[str], shown: int = 3) -> str:
    """The first names, and how many more there are: "a, b, c and 4 more"; with `shown` 1, "a and 6 more"."""
    more = f" and {len(names) - shown} more" if len(names) > shown else ""
    return f"{', '.join(names[:shown])}{more}"
