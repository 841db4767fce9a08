"""GRCAM's second gradient: predicted boxes b revised once towards pseudo boxes b*, in closed form.

    loss = mean((b - b*)^2), its gradient g = (b - b*) / 2
    b'   = clip(b - 2 (S - D) D, 0, 223)         with S = sigmoid(b) / |sigmoid(b)| and D = g / |g|

The release takes both norms over an axis of length one (quirk Q3), which leaves S = 1 and D = sign(b - b*): four
pixels are added where a coordinate is smaller than the pseudo box's, and nothing happens where it is not.
"""

from collections.abc import Callable

import numpy as np

from grcam.config import REVISION_FACTOR, SIDE

FORMS = ("released", "intended", "average", "off")


def revise(predicted: np.ndarray, pseudo: np.ndarray, form: str = "released") -> np.ndarray:
    """Boxes revised, any number at once, their coordinates in any order.

    Args:
        predicted: b (..., 4) in pixels of the 224 x 224 frame.
        pseudo: b* (..., 4), broadcast against `predicted`.
        form: `released`: as above. `intended`: both norms over the four coordinates of a box, this project's reading
            of what was meant. `average`: (b + b*) / 2, for comparison. `off`: b.

    Returns:
        float64 (..., 4), within [0, 223] unless `off`.

    Raises:
        ValueError: another form.
    """
    if form not in FORMS:
        raise ValueError(f"unknown form of revision {form!r}, expected one of {', '.join(FORMS)}")
    predicted, pseudo = np.asarray(predicted, dtype=np.float64), np.asarray(pseudo, dtype=np.float64)
    if form == "off":
        return np.array(predicted)
    return np.clip(_FORMS[form](predicted, pseudo), 0, SIDE - 1)


def _released(predicted: np.ndarray, pseudo: np.ndarray) -> np.ndarray:
    return predicted + 2 * REVISION_FACTOR * (predicted < pseudo)


def _intended(predicted: np.ndarray, pseudo: np.ndarray) -> np.ndarray:
    gate = _unit(_sigmoid(predicted), axis=-1)
    gradient = _unit((predicted - pseudo) / 2, axis=-1)
    return predicted - REVISION_FACTOR * (gate - gradient) * gradient


def _average(predicted: np.ndarray, pseudo: np.ndarray) -> np.ndarray:
    return (predicted + pseudo) / 2


_FORMS: dict[str, Callable[[np.ndarray, np.ndarray], np.ndarray]] = {
    "released": _released,
    "intended": _intended,
    "average": _average,
}


def revise_together(predicted: np.ndarray, pseudo: np.ndarray) -> np.ndarray:
    """The released revision of an image that stands n times in a box file, because step 1 ran twice (quirk Q14).

    The norm of the sigmoid then runs over the n boxes, so that every coordinate moves.

    Args:
        predicted: (n, 4).
        pseudo: (4,).
    """
    predicted, pseudo = np.asarray(predicted, dtype=np.float64), np.asarray(pseudo, dtype=np.float64)
    gate, sign = _unit(_sigmoid(predicted), axis=0), np.sign(predicted - pseudo)
    return np.clip(predicted - REVISION_FACTOR * (gate - sign) * sign, 0, SIDE - 1)


def _sigmoid(values: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-values))


def _unit(values: np.ndarray, axis: int) -> np.ndarray:
    return values / np.sqrt(np.maximum((values**2).sum(axis=axis, keepdims=True), 1e-12))
