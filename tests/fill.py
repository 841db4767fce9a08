"""Images and weights that a name and a seed alone determine, on every machine: what recorded numbers were made from."""

import zlib

import numpy as np

SCALES = {"kernel": (0.0, None), "bias": (0.0, 0.01), "scale": (1.0, 0.1), "shift": (0.0, 0.1), "mean": (0.0, 0.1)}
"""Centre and deviation of each kind of tensor; a kernel's deviation is sqrt(gain / inputs)."""


def values(name: str, shape: tuple[int, ...], kind: str, seed: int, gain: float = 2.0, inputs: int = 1) -> np.ndarray:
    """float32 values of the tensor `name`; kinds are those of `SCALES`, and `var`, a running variance."""
    drawn = np.random.RandomState((zlib.crc32(name.encode()) + seed) % 2**32).standard_normal(int(np.prod(shape)))
    if kind == "var":
        return (1.0 + 0.1 * np.abs(drawn)).reshape(shape).astype(np.float32)
    centre, deviation = SCALES[kind]
    deviation = np.sqrt(gain / inputs) if deviation is None else deviation
    return (centre + deviation * drawn).reshape(shape).astype(np.float32)


def batch(count: int, height: int, width: int, seed: int) -> np.ndarray:
    """Several images, (N, H, W, 3) uint8."""
    return np.stack([image(height, width, 1000 * seed + number) for number in range(count)])


def image(height: int = 375, width: int = 500, seed: int = 0) -> np.ndarray:
    """A smooth picture with one bright blob, (H, W, 3) uint8 RGB; numpy's frozen RandomState draws it."""
    rng = np.random.RandomState(seed)
    grid = rng.uniform(0, 255, (9, 11, 3))
    y, x = np.linspace(0, 8, height), np.linspace(0, 10, width)
    top, left = np.minimum(y.astype(int), 7), np.minimum(x.astype(int), 9)
    down, right = (y - top)[:, None, None], (x - left)[None, :, None]
    smooth = (
        grid[top][:, left] * (1 - down) * (1 - right)
        + grid[top][:, left + 1] * (1 - down) * right
        + grid[top + 1][:, left] * down * (1 - right)
        + grid[top + 1][:, left + 1] * down * right
    )
    centre_y, centre_x = rng.uniform(0.3, 0.7, 2) * (height, width)
    radius_y, radius_x = rng.uniform(0.15, 0.3, 2) * (height, width)
    rows, columns = np.mgrid[:height, :width]
    blob = np.exp(-(((rows - centre_y) / radius_y) ** 2 + ((columns - centre_x) / radius_x) ** 2))[..., None]
    return np.clip(smooth * (1 - blob) + 255 * blob * rng.uniform(0.5, 1, 3), 0, 255).astype(np.uint8)
