"""The embedded data's pictures: invented birds on branches, painted with numpy and OpenCV from a seed alone.

All species share one body and differ in crest, bill and face, a small part of the bird. A species mostly wears its own
plumage, but not always, so the head is the surer evidence; one bird in ten is young and has no marks on its head yet,
so the body is evidence too. Pose, size, light, place and clutter are drawn at random for each picture.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

Colour = tuple[float, float, float]
"""RGB in [0, 1]."""


@dataclass(frozen=True)
class Species:
    """Features that tell one species from another: marks on the head, and less reliably the plumage.

    Attributes:
        name: as the class folder is called.
        crest: `none`, `spikes`, `fan`, `plumes` or `cap`, and its colour.
        bill: `cone`, `needle`, `hook` or `spoon`, and its colour.
        face: `none`, `mask`, `disc`, `ring` or `throat`, and its colour.
        plumage: number of the one that most of its birds wear, see `PLUMAGES`.
    """

    name: str
    crest: tuple[str, Colour]
    bill: tuple[str, Colour]
    face: tuple[str, Colour]
    plumage: int


BLACK, WHITE = (0.09, 0.08, 0.09), (0.95, 0.94, 0.90)
RED, ORANGE, YELLOW = (0.82, 0.12, 0.10), (0.95, 0.50, 0.08), (0.96, 0.80, 0.16)
BLUE, VIOLET, PINK = (0.13, 0.35, 0.85), (0.48, 0.20, 0.66), (0.93, 0.38, 0.55)
DULL = (0.38, 0.34, 0.30)

SPECIES = (
    Species("001.Ember_Crested_Wren", ("spikes", RED), ("cone", BLACK), ("none", BLACK), 0),
    Species("002.Azure_Capped_Wren", ("cap", BLUE), ("cone", YELLOW), ("none", BLACK), 1),
    Species("003.Gold_Masked_Wren", ("none", BLACK), ("cone", BLACK), ("mask", YELLOW), 2),
    Species("004.Hook_Billed_Wren", ("none", BLACK), ("hook", ORANGE), ("ring", WHITE), 3),
    Species("005.Needle_Billed_Wren", ("none", BLACK), ("needle", BLACK), ("throat", RED), 4),
    Species("006.Twin_Plumed_Wren", ("plumes", WHITE), ("cone", ORANGE), ("mask", BLACK), 5),
    Species("007.Moon_Faced_Wren", ("none", BLACK), ("cone", BLACK), ("disc", WHITE), 6),
    Species("008.Violet_Fanned_Wren", ("fan", VIOLET), ("spoon", PINK), ("none", BLACK), 7),
)

PLUMAGES: tuple[tuple[Colour, Colour], ...] = (
    ((0.44, 0.30, 0.18), (0.84, 0.72, 0.52)),  # brown, buff below
    ((0.36, 0.42, 0.50), (0.88, 0.88, 0.86)),  # slate, white below
    ((0.40, 0.46, 0.16), (0.90, 0.84, 0.40)),  # olive, yellow below
    ((0.66, 0.30, 0.14), (0.92, 0.66, 0.40)),  # rust, orange below
    ((0.17, 0.18, 0.22), (0.48, 0.46, 0.46)),  # sooty
    ((0.62, 0.54, 0.38), (0.94, 0.90, 0.78)),  # sand, cream below
    ((0.16, 0.44, 0.44), (0.62, 0.80, 0.72)),  # teal
    ((0.52, 0.26, 0.34), (0.90, 0.70, 0.70)),  # wine, rose below
)
"""Back and belly."""
LOYAL = 0.9
"""Share of birds in their species' plumage; the others wear any. So bodies carry some evidence, as birds' bodies do."""
YOUNG = 0.1
"""Share of birds whose head has none of its species' marks yet: only the body tells what they are."""


SCENE_SIZES = {1: (0.40, 0.60), 2: (0.36, 0.46), 3: (0.28, 0.34)}
"""Range of a bird's size, as a share of the picture's shorter side, by how many birds the picture shows."""


@dataclass(frozen=True)
class Picture:
    """One painted picture.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        mask: (H, W) bool, the bird's visible pixels.
    """

    image: np.ndarray
    mask: np.ndarray

    @property
    def box(self) -> tuple[int, int, int, int]:
        """`x0 y0 x1 y1` around the visible pixels, end-exclusive."""
        rows, columns = np.flatnonzero(self.mask.any(1)), np.flatnonzero(self.mask.any(0))
        return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def paint(species: Species, rng: np.random.Generator) -> Picture:
    """A picture of one bird; everything but the species is drawn from `rng`."""
    height, width = int(rng.integers(260, 420)), int(rng.integers(300, 480))
    canvas = _Canvas(height, width, rng)
    bird = _Bird(species, canvas, rng)
    canvas.backdrop()
    canvas.distractors(bird.unit)
    bird.paint_branch()
    bird.paint()
    hidden = canvas.foreground(bird)
    return Picture(canvas.finish(), (bird.visible > 0.5) & (hidden < 0.5))


@dataclass(frozen=True)
class Scene:
    """One painted picture of several birds.

    Attributes:
        image: (H, W, 3) uint8 RGB.
        labels: (H, W) uint8: 0 where no bird is seen, else 1 + the place of its species among those painted.
    """

    image: np.ndarray
    labels: np.ndarray


def paint_scene(species: Sequence[Species], rng: np.random.Generator) -> Scene:
    """A picture of one bird of each species named, side by side, later ones in front; all else is drawn from `rng`."""
    height, width = int(rng.integers(200, 280)), int(rng.integers(260, 360))
    canvas = _Canvas(height, width, rng)
    birds = [_Bird(each, canvas, rng, SCENE_SIZES[len(species)]) for each in species]
    for place, bird in zip(rng.permutation(len(birds)), birds, strict=True):
        if len(birds) > 1:
            bird.move_to((place + rng.uniform(0.4, 0.6)) / len(birds))
    canvas.backdrop()
    canvas.distractors(birds[0].unit)
    labels = np.zeros((height, width), np.uint8)
    for number, bird in enumerate(birds, start=1):
        bird.paint_branch()
        before = labels.copy()
        bird.paint()
        labels = np.where(bird.visible > 0.5, number, before).astype(np.uint8)
    labels[canvas.foreground(birds[-1]) >= 0.5] = 0
    return Scene(canvas.finish(), labels)


# ------------------------------------------------------------------------------------------------ paint and scenery


@dataclass(frozen=True)
class _Shape:
    """Part of a picture: where its rectangle lies, and how much of each of its pixels is covered, in [0, 1]."""

    place: tuple[slice, slice]
    alpha: np.ndarray

    def on(self, other: "_Shape") -> "_Shape":
        """Only where `other`, of which this is a part, is covered too."""
        whole = np.zeros([axis.stop for axis in other.place], np.float32)
        whole[other.place] = other.alpha
        rows, columns = self.place
        below = np.zeros_like(self.alpha)
        seen = whole[rows, columns]
        below[: seen.shape[0], : seen.shape[1]] = seen
        return _Shape(self.place, self.alpha * below)


class _Canvas:
    """A picture being painted: float32 RGB in [0, 1], and the things that are not the bird."""

    def __init__(self, height: int, width: int, rng: np.random.Generator):
        self.height, self.width, self.rng = height, width, rng
        self.pixels: np.ndarray = np.zeros((height, width, 3), np.float32)
        sky, ground, leaf, bright = _SCENES[rng.choice(list(_SCENES))]
        self.sky, self.ground, self.leaf_colours = np.array(sky), np.array(ground), (np.array(leaf), np.array(bright))

    def polygon(self, points: np.ndarray, opacity: float = 1.0) -> _Shape:
        """The antialiased inside of a polygon (N, 2) in pixels."""
        return self._draw(points, 1, opacity, lambda mask, path: cv2.fillPoly(mask, path, (255,), cv2.LINE_AA, shift=4))

    def stroke(self, points: np.ndarray, thickness: float, opacity: float = 1.0) -> _Shape:
        """An antialiased line through points (N, 2)."""
        pen = max(1, round(thickness))
        return self._draw(
            points, pen, opacity, lambda mask, path: cv2.polylines(mask, path, False, (255,), pen, cv2.LINE_AA, shift=4)
        )

    def _draw(self, points: np.ndarray, margin: int, opacity: float, draw) -> _Shape:
        points = np.asarray(points, dtype=np.float64)
        low = np.clip(np.floor(points.min(0)).astype(int) - margin, 0, (self.width - 1, self.height - 1))
        high = np.clip(np.ceil(points.max(0)).astype(int) + margin + 1, low + 1, (self.width, self.height))
        mask = np.zeros((high[1] - low[1], high[0] - low[0]), np.uint8)
        draw(mask, [np.round((points - low) * 16).astype(np.int32)])
        place = (slice(int(low[1]), int(high[1])), slice(int(low[0]), int(high[0])))
        return _Shape(place, mask.astype(np.float32) * (opacity / 255.0))

    def lay(self, shape: _Shape, colour: np.ndarray | Colour) -> None:
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
                shade = self._leaf_colour() + self.rng.normal(0, 0.05, 3)
                self.leaf(self._anywhere(), size * length * self.rng.uniform(0.5, 1.3), shade, 0.8)
            self.pixels = cv2.GaussianBlur(self.pixels, (0, 0), size * blur)

    def _anywhere(self) -> np.ndarray:
        return self.rng.uniform((0, 0), (self.width, self.height))

    def _leaf_colour(self) -> np.ndarray:
        dark, bright = self.leaf_colours
        return dark + (bright - dark) * self.rng.random()

    def leaf(self, centre: np.ndarray, length: float, colour: np.ndarray, opacity: float = 1.0) -> _Shape:
        """A leaf with a midrib."""
        turn = _rotation(self.rng.uniform(0, 2 * np.pi)).T
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
            tip, reach = self._anywhere(), unit * self.rng.uniform(0.6, 1.3)
            root = tip + reach * np.array([self.rng.normal(0, 0.6), self.rng.uniform(0.5, 1.0)])
            bend = (tip + root) / 2 + self.rng.normal(0, 0.15 * reach, 2)
            stem = _spline(np.stack([root, bend, tip]), closed=False)
            self.lay(self.stroke(stem, unit * 0.025), self.leaf_colours[0] * 0.6)
            for point in stem[3:-3:4]:
                self.leaf(point, unit * self.rng.uniform(0.12, 0.25), self._leaf_colour())
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
        shape = self.polygon(centre + _circle(radius) * [1.0, squash])
        self.lay(shape, _shaded(shape, np.clip(colour, 0, 1), radius, 0.9))

    def foreground(self, bird: "_Bird") -> np.ndarray:
        """Leaves in front, often over the bird's body, never over more than a quarter of its head; where they are."""
        hidden = np.zeros((self.height, self.width), np.float32)
        for _ in range(int(self.rng.integers(0, 6))):
            over_bird = self.rng.random() < 0.7
            centre = bird.place(self.rng.uniform((-0.9, -0.5), (0.3, 0.6))) if over_bird else self._anywhere()
            before = self.pixels.copy()
            leaf = self.leaf(centre, bird.unit * self.rng.uniform(0.25, 0.5), self._leaf_colour())
            if (leaf.alpha * bird.head[leaf.place]).sum() > 0.25 * bird.head.sum():
                self.pixels = before
            else:
                hidden[leaf.place] = np.maximum(hidden[leaf.place], leaf.alpha)
        return hidden

    def finish(self) -> np.ndarray:
        """Light, lens and sensor, then 8 bits."""
        y = np.linspace(-1, 1, self.height, dtype=np.float32)[:, None]
        x = np.linspace(-1, 1, self.width, dtype=np.float32)[None]
        light = 1.0 + np.float32(0.18) * (x * self.rng.normal(0, 0.5) - y * 0.5) - 0.14 * (x * x + y * y)
        tint = (1.0 + self.rng.normal(0, 0.03, 3)) * self.rng.uniform(0.85, 1.12)
        pixels: np.ndarray = self.pixels * light[..., None].astype(np.float32) * tint.astype(np.float32)
        pixels += 0.012 * self.rng.standard_normal(pixels.shape, dtype=np.float32)
        return (np.clip(pixels, 0, 1) * 255).astype(np.uint8)


_SCENES: dict[str, tuple[Colour, Colour, Colour, Colour]] = {
    "wood": ((0.36, 0.46, 0.34), (0.16, 0.22, 0.12), (0.16, 0.28, 0.10), (0.45, 0.58, 0.24)),
    "meadow": ((0.66, 0.78, 0.88), (0.42, 0.54, 0.26), (0.28, 0.42, 0.14), (0.66, 0.72, 0.34)),
    "autumn": ((0.70, 0.62, 0.50), (0.36, 0.25, 0.15), (0.50, 0.24, 0.08), (0.86, 0.58, 0.20)),
    "shore": ((0.62, 0.74, 0.80), (0.40, 0.44, 0.42), (0.34, 0.40, 0.34), (0.66, 0.66, 0.56)),
    "dusk": ((0.74, 0.56, 0.48), (0.26, 0.22, 0.28), (0.20, 0.20, 0.22), (0.50, 0.40, 0.34)),
    "frost": ((0.84, 0.88, 0.92), (0.58, 0.62, 0.66), (0.36, 0.42, 0.40), (0.78, 0.80, 0.78)),
}
"""Sky, ground, dark leaf, bright leaf."""


def _rotation(angle: float) -> np.ndarray:
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.array([[cosine, -sine], [sine, cosine]])


def _spline(points: np.ndarray, closed: bool = True, steps: int = 8) -> np.ndarray:
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


def _shaded(shape: _Shape, colour: np.ndarray, depth: float, strength: float) -> np.ndarray:
    """A colour, or colours (h, w, 3), lit from above left as if the shape bulged, with edges `depth` pixels wide."""
    depth = float(depth)  # numpy 2 makes float32 times a float64 scalar float64, numpy 1 kept float32
    solid = np.pad((shape.alpha > 0.5).astype(np.uint8), 1)
    distance = cv2.distanceTransform(solid, cv2.DIST_L2, 3)[1:-1, 1:-1]
    bulge = np.sqrt(np.clip(distance / max(depth, 1.0), 0, 1) + 1e-4) * depth
    bulge = cv2.GaussianBlur(bulge, (0, 0), max(0.8, depth / 8))
    slope_x, slope_y = cv2.Sobel(bulge, cv2.CV_32F, 1, 0) / 8, cv2.Sobel(bulge, cv2.CV_32F, 0, 1) / 8
    light = (0.75 + 0.45 * slope_x + 0.65 * slope_y) / np.sqrt(1 + slope_x**2 + slope_y**2)
    return (colour * (1.0 + strength * (np.clip(light, 0.1, 1.5) - 0.80))[..., None]).astype(np.float32)


def _circle(radius: float) -> np.ndarray:
    t = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    return radius * np.stack([np.cos(t), np.sin(t)], 1)


# ------------------------------------------------------------------------------------------------------- the bird

_BODY = np.array([
    (0.40, -0.40), (0.12, -0.36), (-0.20, -0.25), (-0.48, -0.08), (-0.52, 0.04), (-0.34, 0.20), (-0.02, 0.32),
    (0.26, 0.26), (0.44, 0.06), (0.52, -0.16),
])  # fmt: skip
_WING = np.array([
    (0.24, -0.16), (0.02, -0.26), (-0.34, -0.14), (-0.66, 0.06), (-0.80, 0.16), (-0.46, 0.12), (-0.12, 0.14),
    (0.16, 0.08),
])  # fmt: skip


class _Bird:
    """One bird's pose and plumage. Its own coordinates: body about 1 long, x towards the bill, y down."""

    def __init__(
        self, species: Species, canvas: _Canvas, rng: np.random.Generator, sizes: tuple[float, float] = (0.36, 0.62)
    ):
        self.species, self.canvas, self.rng = species, canvas, rng
        size = np.array([canvas.width, canvas.height], dtype=np.float64)
        self.unit = size.min() * rng.uniform(*sizes)
        self.mirror = rng.choice([-1.0, 1.0])
        self.tilt = rng.uniform(-0.55, 0.30)
        self.stretch = rng.uniform(0.92, 1.12, 2)
        self.neck = np.array([0.46, -0.42]) + rng.normal(0, 0.03, 2)
        self.nod = rng.uniform(-0.35, 0.30)
        self.tail = (rng.uniform(0.40, 0.75), rng.uniform(-0.35, 0.25))
        self.centre = np.zeros(2)
        head, reach = self.place(self.neck), 0.42 * self.unit  # the head is always in the picture, the tail not always
        low = np.maximum(0.35 * self.unit, reach - head)
        self.centre = rng.uniform(low, np.maximum(low + 1, np.minimum(size - 0.45 * self.unit, size - reach - head)))
        loyal, self.young = rng.random() < LOYAL, rng.random() < YOUNG
        self.back, self.belly = (
            np.clip(np.array(colour) + rng.normal(0, 0.04, 3), 0, 1)
            for colour in PLUMAGES[species.plumage if loyal else rng.integers(len(PLUMAGES))]
        )
        self.visible = np.zeros((canvas.height, canvas.width), np.float32)
        self.head = self._head()

    def _head(self) -> np.ndarray:
        head = np.zeros((self.canvas.height, self.canvas.width), np.float32)
        shape = self.canvas.polygon(self.place(self.head_points(_circle(0.27))))
        head[shape.place] = shape.alpha
        return head

    def move_to(self, across: float) -> None:
        """Put the bird at a share of the picture's width."""
        self.centre = np.array([across * self.canvas.width, self.centre[1]])
        self.head = self._head()

    def place(self, points: np.ndarray) -> np.ndarray:
        """The bird's coordinates (..., 2) to pixels."""
        turned = (np.asarray(points) * self.stretch) @ _rotation(self.tilt).T
        return self.centre + self.unit * turned * np.array([self.mirror, 1.0])

    def head_points(self, points: np.ndarray) -> np.ndarray:
        """Coordinates around the head's centre, before nodding, to the bird's."""
        return self.neck + np.asarray(points) @ _rotation(self.nod).T

    def _lay(self, shape: _Shape, colour: np.ndarray | Colour, depth: float, strength: float = 0.9) -> None:
        """Paint a part of the bird, in one colour or colours (H, W, 3), and remember that it shows there."""
        colour = np.asarray(colour, np.float32)
        part = colour[shape.place] if colour.ndim == 3 else colour
        self.canvas.lay(shape, _shaded(shape, part, depth * self.unit, strength))
        self.visible[shape.place] = np.maximum(self.visible[shape.place], shape.alpha)

    def _lay_polygon(
        self, points: np.ndarray, colour: np.ndarray | Colour, depth: float, strength: float = 0.9
    ) -> _Shape:
        shape = self.canvas.polygon(self.place(points))
        self._lay(shape, colour, depth, strength)
        return shape

    def _lay_stroke(self, points: np.ndarray, colour: Colour, thickness: float) -> None:
        self._lay(self.canvas.stroke(self.place(points), self.unit * thickness), colour, thickness / 2, 0.5)

    def paint_branch(self) -> None:
        """Paint the branch that the bird sits on; it is not part of the bird."""
        canvas, rng = self.canvas, self.rng
        foot = self.place(np.array([0.06, 0.50]))
        angle, thickness = rng.uniform(-0.3, 0.3), self.unit * rng.uniform(0.07, 0.16)
        reach = np.linspace(-1.6, 1.6, 7) * max(canvas.width, canvas.height)
        line = foot + np.stack([reach, reach * np.tan(angle)], 1) + [0, thickness / 2]
        line[:, 1] += rng.normal(0, thickness * 0.4, len(line))
        shape = canvas.stroke(_spline(line, closed=False), thickness)
        bark = np.array([0.36, 0.27, 0.20]) * rng.uniform(0.7, 1.4)
        grain = 1.0 + 0.16 * canvas.noise(60, 8.0, angle) + 0.08 * canvas.noise(120)
        canvas.lay(shape, _shaded(shape, bark * grain[shape.place][..., None], thickness / 2, 0.9))

    def paint(self) -> None:
        """Legs, tail, body, wing, head, from back to front."""
        self._legs()
        self._tail()
        self._body()
        self._wing()
        if self.young:
            self._bill("cone", DULL)
        else:
            self._face(*self.species.face)
            self._bill(*self.species.bill)
            self._crest(*self.species.crest)
        self._eye()

    def _legs(self) -> None:
        horn = (0.32, 0.24, 0.20)
        for hip, foot in (((0.00, 0.26), (0.02, 0.52)), ((0.10, 0.25), (0.13, 0.51))):
            self._lay_stroke(np.array([hip, foot]), horn, 0.028)
            self._lay_stroke(
                np.array([(foot[0] - 0.05, foot[1] + 0.02), foot, (foot[0] + 0.08, foot[1] + 0.01)]), horn, 0.026
            )

    def _tail(self) -> None:
        length, droop = self.tail
        feathers = np.array(
            [(0, -0.09), (-0.55, -0.07), (-1.0, -0.10), (-0.93, 0.0), (-1.0, 0.09), (-0.5, 0.07), (0, 0.08)]
        )
        outline = np.array([-0.40, -0.02]) + (feathers * [length, 1.0]) @ _rotation(droop).T
        streaks = 1.0 + 0.22 * self._grain(90, 10.0)
        self._lay_polygon(outline, self.back * 0.62 * streaks[..., None], 0.06)

    def _body(self) -> None:
        body = np.zeros_like(self.visible)
        for outline in (_spline(_BODY), self.head_points(_circle(0.20))):
            shape = self.canvas.polygon(self.place(outline))
            body[shape.place] = np.maximum(body[shape.place], shape.alpha)
        whole = (slice(0, self.canvas.height), slice(0, self.canvas.width))
        self._lay(_Shape(whole, body), self._plumage(), 0.26, 1.1)

    def _plumage(self) -> np.ndarray:
        """Back and belly with feathers, (H, W, 3)."""
        canvas = self.canvas
        y, x = np.mgrid[: canvas.height, : canvas.width].astype(np.float32)
        offset = (np.stack([x, y], -1) - self.centre) / self.unit * np.array([self.mirror, 1.0])
        height = (offset @ _rotation(self.tilt))[..., 1] / self.stretch[1]
        share = np.clip((height - 0.02 + 0.05 * canvas.noise(14)) / 0.22, 0, 1)[..., None]
        feathers = 1.0 + 0.10 * self._grain(70, 4.0) + 0.06 * self._grain(150, 3.0)
        colour = self.back + (self.belly - self.back) * share
        if self.rng.random() < 0.45:  # flecks below
            flecks = (self._grain(55, 1.6) > 0.8).astype(np.float32)[..., None] * share * 0.55
            colour = colour * (1 - flecks) + self.back * 0.7 * flecks
        return (colour * feathers[..., None]).astype(np.float32)

    def _grain(self, cells: float, stretch: float) -> np.ndarray:
        return self.canvas.noise(cells * self.canvas.width / (3 * self.unit), stretch, self.mirror * self.tilt)

    def _wing(self) -> None:
        dark = self.back * self.rng.uniform(0.62, 0.85)
        wing = self._lay_polygon(_spline(_WING), dark * (1.0 + 0.16 * self._grain(80, 7.0))[..., None], 0.10)
        tint = dark + (np.array(WHITE) - dark) * self.rng.uniform(0.1, 0.55)
        for start, end in ((0.30, -0.02), (0.12, 0.03), (-0.05, 0.06)):  # the edges of its feathers
            edge = np.array([(start * 0.6 - 0.02, -0.10), (start * 0.6 - 0.32, end), (-0.62, 0.10)])
            line = self.canvas.stroke(self.place(_spline(edge, closed=False)), self.unit * 0.014, 0.7)
            self.canvas.lay(line.on(wing), tint)

    def _face(self, kind: str, colour: Colour) -> None:
        shapes = {
            "mask": np.array([(0.19, -0.03), (0.06, -0.10), (-0.12, -0.05), (-0.15, 0.03), (0.02, 0.05), (0.17, 0.04)]),
            "disc": np.array([0.045, 0.01]) + _circle(0.135),
            "ring": np.array([0.06, -0.03]) + _circle(0.075),
            "throat": np.array([(0.17, 0.06), (0.05, 0.08), (-0.03, 0.20), (0.02, 0.30), (0.12, 0.22)]),
        }
        if kind in shapes:
            outline = shapes[kind] if kind in ("disc", "ring") else _spline(shapes[kind])
            self._lay_polygon(self.head_points(outline), colour, 0.10, 0.6)

    def _bill(self, kind: str, colour: Colour) -> None:
        shapes = {
            "cone": [(0.15, -0.055), (0.24, -0.03), (0.35, 0.02), (0.24, 0.055), (0.15, 0.065)],
            "needle": [(0.16, -0.02), (0.40, 0.00), (0.66, 0.09), (0.40, 0.035), (0.16, 0.035)],
            "hook": [
                (0.13, -0.09),
                (0.28, -0.10),
                (0.40, -0.01),
                (0.38, 0.12),
                (0.32, 0.05),
                (0.22, 0.06),
                (0.14, 0.06),
            ],
            "spoon": [
                (0.15, -0.03),
                (0.34, -0.02),
                (0.44, -0.07),
                (0.54, 0.00),
                (0.45, 0.08),
                (0.34, 0.03),
                (0.15, 0.04),
            ],
        }
        self._lay_polygon(self.head_points(np.array(shapes[kind])), colour, 0.05)
        if kind != "needle":
            slit = self.place(self.head_points(np.array([(0.15, 0.01), (0.33, 0.02)])))
            self.canvas.lay(self.canvas.stroke(slit, self.unit * 0.008, 0.6), (0.1, 0.08, 0.08))

    def _crest(self, kind: str, colour: Colour) -> None:
        if kind == "cap":
            t = np.linspace(np.pi * 1.02, np.pi * 1.95, 12)
            arc = 0.215 * np.stack([np.cos(t), np.sin(t)], 1)
            self._lay_polygon(self.head_points(np.concatenate([arc, [(0.12, -0.07), (-0.16, -0.02)]])), colour, 0.08)
        elif kind == "spikes":
            for angle in np.linspace(-0.9, 0.5, 5):
                self._feather(angle, 0.36, 0.055, colour)
        elif kind == "fan":
            for angle in np.linspace(-1.15, 0.75, 8):
                self._feather(angle, 0.31, 0.075, colour)
        elif kind == "plumes":
            for lift in (0.0, 0.10):
                curve = np.array([(-0.05, -0.17), (-0.25, -0.30 - lift), (-0.50, -0.28 - lift), (-0.68, -0.16 - lift)])
                self._lay_stroke(self.head_points(_spline(curve, closed=False)), colour, 0.034)

    def _feather(self, angle: float, length: float, width: float, colour: Colour) -> None:
        shape = np.array(
            [(-width / 2, -0.12), (-width * 0.7, -0.24), (0.0, -length), (width * 0.7, -0.24), (width / 2, -0.12)]
        )
        self._lay_polygon(self.head_points(shape @ _rotation(angle).T), colour, 0.03, 0.8)

    def _eye(self) -> None:
        for radius, offset, colour in ((0.042, 0.0, BLACK), (0.013, 0.013, (1.0, 1.0, 1.0))):
            eye = np.array([0.06 + offset, -0.035 - offset]) + _circle(radius)
            self._lay_polygon(self.head_points(eye), colour, 0.02, 0.2)
