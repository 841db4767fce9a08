"""A picture being painted: the things that are not the bird, and the curves and light that all is painted with."""

from dataclasses import dataclass

import cv2
import numpy as np

from common.datasets.layouts.demo_art.species import BLACK, SPECIES, YELLOW, Colour


@dataclass(frozen=True)
class Shape:
    """Part of a picture: where its rectangle lies, and how much of each of its pixels is covered, in [0, 1]."""

    place: tuple[slice, slice]
    alpha: np.ndarray

    def on(self, other: "Shape") -> "Shape":
        """Only where `other`, of which this is a part, is covered too."""
        whole = np.zeros([axis.stop for axis in other.place], np.float32)
        whole[other.place] = other.alpha
        rows, columns = self.place
        below = np.zeros_like(self.alpha)
        seen = whole[rows, columns]
        below[: seen.shape[0], : seen.shape[1]] = seen
        return Shape(self.place, self.alpha * below)


class Canvas:
    """A picture being painted: float32 RGB in [0, 1], and the things that are not the bird."""

    def __init__(self, height: int, width: int, rng: np.random.Generator):
        self.height, self.width, self.rng = height, width, rng
        self.pixels: np.ndarray = np.zeros((height, width, 3), np.float32)
        sky, ground, leaf, bright = SCENES[rng.choice(list(SCENES))]
        self.sky, self.ground, self.leaf_colours = np.array(sky), np.array(ground), (np.array(leaf), np.array(bright))

    def polygon(self, points: np.ndarray, opacity: float = 1.0) -> Shape:
        """The antialiased inside of a polygon (N, 2) in pixels."""
        return self._draw(points, 1, opacity, lambda mask, path: cv2.fillPoly(mask, path, (255,), cv2.LINE_AA, shift=4))

    def stroke(self, points: np.ndarray, thickness: float, opacity: float = 1.0) -> Shape:
        """An antialiased line through points (N, 2)."""
        pen = max(1, round(thickness))
        return self._draw(
            points, pen, opacity, lambda mask, path: cv2.polylines(mask, path, False, (255,), pen, cv2.LINE_AA, shift=4)
        )

    def _draw(self, points: np.ndarray, margin: int, opacity: float, draw) -> Shape:
        points = np.asarray(points, dtype=np.float64)
        low = np.clip(np.floor(points.min(0)).astype(int) - margin, 0, (self.width - 1, self.height - 1))
        high = np.clip(np.ceil(points.max(0)).astype(int) + margin + 1, low + 1, (self.width, self.height))
        mask = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
        draw(mask, [np.round((points - low) * 16).astype(np.int32)])
        place = (slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0])))
        return Shape(place, mask.astype(np.float32) * (opacity / 255.0))

    def lay(self, shape: Shape, colour: np.ndarray | Colour) -> None:
        """Cover the picture with a colour, or with colours (h, w, 3) of the shape's rectangle."""
        below = self.pixels[shape.place]
        below += shape.alpha[..., None] * (np.asarray(colour, np.float32) - below)

    def noise(self, cells: float, stretch: float = 1.0, angle: float = 0.0) -> np.ndarray:
        """Smooth noise (H, W) of mean 0 and deviation about 1, `cells` bumps across, stretched along a direction."""
        across, along = max(2, int(cells * self.height / self.width) + 2), max(2, int(cells / stretch) + 2)
        grid = self.rng.standard_normal((across, along)).astype(np.float32)
        if angle == 0.0:
            return cv2.resize(grid, (self.width, self.height), interpolation=cv2.INTER_CUBIC)
        side = int(np.hypot(self.height, self.width)) + 1
        field = cv2.resize(grid, (side, side), interpolation=cv2.INTER_LINEAR)
        turn: np.ndarray = cv2.getRotationMatrix2D((side / 2, side / 2), -np.degrees(angle), 1.0)
        turn[:, 2] += (np.array([self.width, self.height]) - side) / 2
        return cv2.warpAffine(field, turn, (self.width, self.height), borderMode=cv2.BORDER_REFLECT)

    def backdrop(self) -> None:
        """Sky, ground, and leaves at three distances, each less out of focus than the one behind it."""
        slope = np.linspace(0, 1, self.height, dtype=np.float32)[:, None] + 0.15 * self.noise(3)
        self.pixels[:] = self.sky + (self.ground - self.sky) * np.clip(slope, 0, 1)[..., None]
        self.pixels += 0.06 * self.noise(5)[..., None] + 0.03 * self.noise(24)[..., None]
        size = np.hypot(self.height, self.width)
        for count, length, blur in ((26, 0.10, 0.020), (45, 0.06, 0.009), (60, 0.045, 0.003)):
            for _ in range(count):
                shade = self.leaf_colour() + self.rng.normal(0, 0.05, 3)
                self.leaf(self.anywhere(), size * length * self.rng.uniform(0.5, 1.3), shade, 0.8)
            self.pixels = cv2.GaussianBlur(self.pixels, (0, 0), size * blur)

    def anywhere(self) -> np.ndarray:
        """A random point (2,) of the picture."""
        return self.rng.uniform((0, 0), (self.width, self.height))

    def leaf_colour(self) -> np.ndarray:
        """A random colour between the scene's dark leaves and its bright ones."""
        dark, bright = self.leaf_colours
        return dark + (bright - dark) * self.rng.random()

    def leaf(self, centre: np.ndarray, length: float, colour: np.ndarray, opacity: float = 1.0) -> Shape:
        """A leaf with a midrib."""
        turn = rotation(self.rng.uniform(0, 2 * np.pi)).T
        t = np.linspace(0, 1, 9)
        half = self.rng.uniform(0.22, 0.42) * np.sin(np.pi * t**0.8)
        outline = np.concatenate([np.stack([t - 0.5, half], 1), np.stack([t - 0.5, -half], 1)[::-1]])
        shape = self.polygon(centre + length * outline @ turn, opacity)
        self.lay(shape, np.clip(colour, 0, 1))
        rib = self.stroke(centre + length * np.array([[-0.5, 0.0], [0.42, 0.0]]) @ turn, length / 40, 0.4 * opacity)
        self.lay(rib, np.clip(colour * 1.35, 0, 1))
        return shape

    def distractors(self, unit: float) -> None:
        """Sprigs with berries or blossoms in the species' own colours, and stones on the ground."""
        marks = [mark for species in SPECIES for mark in (species.crest, species.bill, species.face)]
        colours = [np.array(colour) for _, colour in marks if colour != BLACK]
        for _ in range(int(self.rng.integers(0, 4))):
            centre = self.rng.uniform((0, 0.86 * self.height), (self.width, 1.05 * self.height))
            grey = np.array([0.5, 0.48, 0.45]) * self.rng.uniform(0.6, 1.2)
            self._ball(centre, unit * self.rng.uniform(0.15, 0.35), grey, squash=self.rng.uniform(0.45, 0.7))
        for _ in range(int(self.rng.integers(2, 6))):
            tip, reach = self.anywhere(), unit * self.rng.uniform(0.6, 1.3)
            root = tip + reach * np.array([self.rng.normal(0, 0.6), self.rng.uniform(0.5, 1.0)])
            bend = (tip + root) / 2 + self.rng.normal(0, 0.15 * reach, 2)
            stem = spline(np.stack([root, bend, tip]), closed=False)
            self.lay(self.stroke(stem, unit * 0.025), self.leaf_colours[0] * 0.6)
            for point in stem[3:-3:4]:
                self.leaf(point, unit * self.rng.uniform(0.12, 0.25), self.leaf_colour())
            colour = colours[self.rng.integers(len(colours))] + self.rng.normal(0, 0.04, 3)
            if self.rng.random() < 0.5:
                self._blossom(tip, unit * self.rng.uniform(0.05, 0.09), colour)
            else:
                for _ in range(int(self.rng.integers(3, 7))):
                    self._ball(tip + self.rng.normal(0, 0.07 * unit, 2), unit * self.rng.uniform(0.035, 0.06), colour)
        self.pixels = cv2.GaussianBlur(self.pixels, (0, 0), 0.9)

    def _blossom(self, centre: np.ndarray, radius: float, colour: np.ndarray) -> None:
        petals, tilt = int(self.rng.integers(5, 8)), self.rng.uniform(0, np.pi)
        for angle in tilt + 2 * np.pi * np.arange(petals) / petals:
            self._ball(centre + radius * 1.1 * np.array([np.cos(angle), np.sin(angle)]), radius * 0.75, colour)
        self._ball(centre, radius * 0.5, np.array(YELLOW))

    def _ball(self, centre: np.ndarray, radius: float, colour: np.ndarray, squash: float = 1.0) -> None:
        shape = self.polygon(centre + circle(radius) * [1.0, squash])
        self.lay(shape, shaded(shape, np.clip(colour, 0, 1), radius, 0.9))

    def finish(self) -> np.ndarray:
        """Light, lens and sensor, then 8 bits."""
        y = np.linspace(-1, 1, self.height, dtype=np.float32)[:, None]
        x = np.linspace(-1, 1, self.width, dtype=np.float32)[None]
        light = 1.0 + np.float32(0.18) * (x * self.rng.normal(0, 0.5) - y * 0.5) - 0.14 * (x * x + y * y)
        tint = (1.0 + self.rng.normal(0, 0.03, 3)) * self.rng.uniform(0.85, 1.12)
        pixels: np.ndarray = self.pixels * light[..., None].astype(np.float32) * tint.astype(np.float32)
        pixels += 0.012 * self.rng.standard_normal(pixels.shape, dtype=np.float32)
        return (np.clip(pixels, 0, 1) * 255).astype(np.uint8)


SCENES: dict[str, tuple[Colour, Colour, Colour, Colour]] = {
    "wood": ((0.36, 0.46, 0.34), (0.16, 0.22, 0.12), (0.16, 0.28, 0.10), (0.45, 0.58, 0.24)),
    "meadow": ((0.66, 0.78, 0.88), (0.42, 0.54, 0.26), (0.28, 0.42, 0.14), (0.66, 0.72, 0.34)),
    "autumn": ((0.70, 0.62, 0.50), (0.36, 0.25, 0.15), (0.50, 0.24, 0.08), (0.86, 0.58, 0.20)),
    "shore": ((0.62, 0.74, 0.80), (0.40, 0.44, 0.42), (0.34, 0.40, 0.34), (0.66, 0.66, 0.56)),
    "dusk": ((0.74, 0.56, 0.48), (0.26, 0.22, 0.28), (0.20, 0.20, 0.22), (0.50, 0.40, 0.34)),
    "frost": ((0.84, 0.88, 0.92), (0.58, 0.62, 0.66), (0.36, 0.42, 0.40), (0.78, 0.80, 0.78)),
}
"""Sky, ground, dark leaf, bright leaf."""


def rotation(angle: float) -> np.ndarray:
    """The matrix (2, 2) that turns points, in columns, by an angle in radians."""
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.array([[cosine, -sine], [sine, cosine]])


def spline(points: np.ndarray, closed: bool = True, steps: int = 8) -> np.ndarray:
    """A Catmull-Rom curve through points (N, 2)."""
    if closed:
        ring = np.concatenate([points[-1:], points, points[:2]])
    else:
        ring = np.concatenate([points[:1], points, points[-1:]])
    p0, p1, p2, p3 = (ring[k : len(ring) - 3 + k, None] for k in range(4))
    t = np.linspace(0, 1, steps, endpoint=False)[None, :, None]
    curve = p1 + 0.5 * t * (p2 - p0 + t * (2 * p0 - 5 * p1 + 4 * p2 - p3 + t * (3 * (p1 - p2) + p3 - p0)))
    curve = curve.reshape(-1, 2)
    return curve if closed else np.concatenate([curve, points[-1:]])


def shaded(shape: Shape, colour: np.ndarray, depth: float, strength: float) -> np.ndarray:
    """A colour, or colours (h, w, 3), lit from above left as if the shape bulged, with edges `depth` pixels wide."""
    depth = float(depth)  # numpy 2 makes float32 times a float64 scalar float64, numpy 1 kept float32
    solid = np.pad((shape.alpha > 0.5).astype(np.uint8), 1)
    distance = cv2.distanceTransform(solid, cv2.DIST_L2, 3)[1:-1, 1:-1]
    bulge = np.sqrt(np.clip(distance / max(depth, 1.0), 0, 1) + 1e-4) * depth
    bulge = cv2.GaussianBlur(bulge, (0, 0), max(0.8, depth / 8))
    slope_x, slope_y = cv2.Sobel(bulge, cv2.CV_32F, 1, 0) / 8, cv2.Sobel(bulge, cv2.CV_32F, 0, 1) / 8
    light = (0.75 + 0.45 * slope_x + 0.65 * slope_y) / np.sqrt(1 + slope_x**2 + slope_y**2)
    return (colour * (1.0 + strength * (np.clip(light, 0.1, 1.5) - 0.80))[..., None]).astype(np.float32)


def circle(radius: float) -> np.ndarray:
    """A circle around the origin as a polygon (28, 2)."""
    t = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    return radius * np.stack([np.cos(t), np.sin(t)], 1)
