"""Quotients of counts and of areas, on which every figure rests, each proved by its product.

A processor was seen to divide some lanes of a vector wrongly, by powers of two, and single numbers right
(RELIABILITY.md).
"""

import numpy as np
from numpy.typing import ArrayLike

from common.measuring.arrays import Floats

_ROUNDING = 4 * float(np.finfo(np.float64).eps)


def ratio(part: ArrayLike, whole: ArrayLike, none: float = np.nan) -> Floats:
    """`part / whole`, float64, broadcast against each other; `none` where the whole is not above 0.

    A quotient whose product with the whole is not the part, but for rounding, is computed again as a single number.
    """
    parts, wholes = np.asarray(part), np.asarray(whole, np.float64)
    known = wholes > 0
    found = np.divide(parts, wholes, out=np.full(np.broadcast_shapes(parts.shape, wholes.shape), none), where=known)
    wrong = known & ~(np.abs(found * wholes - parts) <= _ROUNDING * np.abs(parts))
    if wrong.any():
        parts, wholes = np.broadcast_arrays(parts, wholes)
        for place in map(tuple, np.argwhere(wrong)):
            found[place] = float(parts[place]) / float(wholes[place])
    return found
