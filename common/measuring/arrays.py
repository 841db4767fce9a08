"""Names of numpy arrays by what they hold; docstrings give their shapes."""

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
"""Array of a type that a file or a caller decides."""
Boxes: TypeAlias = NDArray[np.float64]
"""(N, 4) `x0 y0 x1 y1`."""
Floats: TypeAlias = NDArray[np.floating[Any]]
"""Localization maps, accuracies, thresholds: float32 or float64."""
Integers: TypeAlias = NDArray[np.integer[Any]]
Flags: TypeAlias = NDArray[np.bool_]
Bytes: TypeAlias = NDArray[np.uint8]
"""Pictures in RGB, masks and label maps."""
Indices: TypeAlias = Sequence[int] | Integers
"""Positions along an axis."""
Thresholds: TypeAlias = Sequence[float] | Floats
