"""The embedded data's species: what tells them apart, and what their birds wear."""

from dataclasses import dataclass

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
