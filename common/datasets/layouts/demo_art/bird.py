"""A bird of the embedded data: its pose and plumage, painted part by part."""

import numpy as np

from common.datasets.layouts.demo_art.canvas import Canvas, Shape, circle, rotation, shaded, spline
from common.datasets.layouts.demo_art.species import BLACK, DULL, LOYAL, PLUMAGES, WHITE, YOUNG, Colour, Species

_BODY = np.array([
    (0.40, -0.40), (0.12, -0.36), (-0.20, -0.25), (-0.48, -0.08), (-0.52, 0.04), (-0.34, 0.20), (-0.02, 0.32),
    (0.26, 0.26), (0.44, 0.06), (0.52, -0.16),
])  # fmt: skip
_WING = np.array([
    (0.24, -0.16), (0.02, -0.26), (-0.34, -0.14), (-0.66, 0.06), (-0.80, 0.16), (-0.46, 0.12), (-0.12, 0.14),
    (0.16, 0.08),
])  # fmt: skip


class Bird:
    """One bird's pose and plumage. Its own coordinates: body about 1 long, x towards the bill, y down."""

    def __init__(
        self, species: Species, canvas: Canvas, rng: np.random.Generator, sizes: tuple[float, float] = (0.36, 0.62)
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
        shape = self.canvas.polygon(self.place(self.head_points(circle(0.27))))
        head[shape.place] = shape.alpha
        return head

    def move_to(self, across: float) -> None:
        """Put the bird at a share of the picture's width."""
        self.centre = np.array([across * self.canvas.width, self.centre[1]])
        self.head = self._head()

    def place(self, points: np.ndarray) -> np.ndarray:
        """The bird's coordinates (..., 2) to pixels."""
        turned = (np.asarray(points) * self.stretch) @ rotation(self.tilt).T
        return self.centre + self.unit * turned * np.array([self.mirror, 1.0])

    def head_points(self, points: np.ndarray) -> np.ndarray:
        """Coordinates around the head's centre, before nodding, to the bird's."""
        return self.neck + np.asarray(points) @ rotation(self.nod).T

    def _lay(self, shape: Shape, colour: np.ndarray | Colour, depth: float, strength: float = 0.9) -> None:
        """Paint a part of the bird, in one colour or colours (H, W, 3), and remember that it shows there."""
        colour = np.asarray(colour, np.float32)
        part = colour[shape.place] if colour.ndim == 3 else colour
        self.canvas.lay(shape, shaded(shape, part, depth * self.unit, strength))
        self.visible[shape.place] = np.maximum(self.visible[shape.place], shape.alpha)

    def _lay_polygon(
        self, points: np.ndarray, colour: np.ndarray | Colour, depth: float, strength: float = 0.9
    ) -> Shape:
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
        shape = canvas.stroke(spline(line, closed=False), thickness)
        bark = np.array([0.36, 0.27, 0.20]) * rng.uniform(0.7, 1.4)
        grain = 1.0 + 0.16 * canvas.noise(60, 8.0, angle) + 0.08 * canvas.noise(120)
        canvas.lay(shape, shaded(shape, bark * grain[shape.place][..., None], thickness / 2, 0.9))

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

    def paint_leaves_in_front(self) -> np.ndarray:
        """Leaves, often over the body, never over more than a quarter of the head; how much they cover (H, W)."""
        canvas, rng = self.canvas, self.rng
        hidden = np.zeros((canvas.height, canvas.width), np.float32)
        for _ in range(int(rng.integers(0, 6))):
            over_bird = rng.random() < 0.7
            centre = self.place(rng.uniform((-0.9, -0.5), (0.3, 0.6))) if over_bird else canvas.anywhere()
            before = canvas.pixels.copy()
            leaf = canvas.leaf(centre, self.unit * rng.uniform(0.25, 0.5), canvas.leaf_colour())
            if (leaf.alpha * self.head[leaf.place]).sum() > 0.25 * self.head.sum():
                canvas.pixels = before
            else:
                hidden[leaf.place] = np.maximum(hidden[leaf.place], leaf.alpha)
        return hidden

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
        outline = np.array([-0.40, -0.02]) + (feathers * [length, 1.0]) @ rotation(droop).T
        streaks = 1.0 + 0.22 * self._grain(90, 10.0)
        self._lay_polygon(outline, self.back * 0.62 * streaks[..., None], 0.06)

    def _body(self) -> None:
        body = np.zeros_like(self.visible)
        for outline in (spline(_BODY), self.head_points(circle(0.20))):
            shape = self.canvas.polygon(self.place(outline))
            body[shape.place] = np.maximum(body[shape.place], shape.alpha)
        whole = (slice(0, self.canvas.height), slice(0, self.canvas.width))
        self._lay(Shape(whole, body), self._plumage(), 0.26, 1.1)

    def _plumage(self) -> np.ndarray:
        """Back and belly with feathers, (H, W, 3)."""
        canvas = self.canvas
        y, x = np.mgrid[: canvas.height, : canvas.width].astype(np.float32)
        offset = (np.stack([x, y], -1) - self.centre) / self.unit * np.array([self.mirror, 1.0])
        height = (offset @ rotation(self.tilt))[..., 1] / self.stretch[1]
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
        wing = self._lay_polygon(spline(_WING), dark * (1.0 + 0.16 * self._grain(80, 7.0))[..., None], 0.10)
        tint = dark + (np.array(WHITE) - dark) * self.rng.uniform(0.1, 0.55)
        for start, end in ((0.30, -0.02), (0.12, 0.03), (-0.05, 0.06)):  # the edges of its feathers
            edge = np.array([(start * 0.6 - 0.02, -0.10), (start * 0.6 - 0.32, end), (-0.62, 0.10)])
            line = self.canvas.stroke(self.place(spline(edge, closed=False)), self.unit * 0.014, 0.7)
            self.canvas.lay(line.on(wing), tint)

    def _face(self, kind: str, colour: Colour) -> None:
        shapes = {
            "mask": np.array([(0.19, -0.03), (0.06, -0.10), (-0.12, -0.05), (-0.15, 0.03), (0.02, 0.05), (0.17, 0.04)]),
            "disc": np.array([0.045, 0.01]) + circle(0.135),
            "ring": np.array([0.06, -0.03]) + circle(0.075),
            "throat": np.array([(0.17, 0.06), (0.05, 0.08), (-0.03, 0.20), (0.02, 0.30), (0.12, 0.22)]),
        }
        if kind in shapes:
            outline = shapes[kind] if kind in ("disc", "ring") else spline(shapes[kind])
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
                self._lay_stroke(self.head_points(spline(curve, closed=False)), colour, 0.034)

    def _feather(self, angle: float, length: float, width: float, colour: Colour) -> None:
        shape = np.array(
            [(-width / 2, -0.12), (-width * 0.7, -0.24), (0.0, -length), (width * 0.7, -0.24), (width / 2, -0.12)]
        )
        self._lay_polygon(self.head_points(shape @ rotation(angle).T), colour, 0.03, 0.8)

    def _eye(self) -> None:
        for radius, offset, colour in ((0.042, 0.0, BLACK), (0.013, 0.013, (1.0, 1.0, 1.0))):
            eye = np.array([0.06 + offset, -0.035 - offset]) + circle(radius)
            self._lay_polygon(self.head_points(eye), colour, 0.02, 0.2)
