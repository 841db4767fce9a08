"""Archives of arrays, `.npz`, as numpy writes them."""

import zipfile
from collections.abc import Mapping
from typing import Any, BinaryIO

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray


def put_arrays(file: BinaryIO, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Write named arrays into an open file.

    `numpy.savez` leaves its archive open where the disk is full, and Python complains of that once the file is closed.

    Raises:
        OSError: the disk is full.
        ValueError: an array holds objects, which only a pickle could.
    """
    with zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                npy.write_array(entry, np.asanyarray(array), allow_pickle=False)
