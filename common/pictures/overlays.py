"""Pictures of localization: an image with its boxes, and under its map."""

import io
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from common.measuring.geometry import Frame
from common.system.errors import UserError

PREDICTED, TRUE = (255, 176, 0), (90, 230, 90)
"""RGB of the predicted and of the true boxes."""


def draw(
    image: np.ndarray,
    frame: Frame,
    localization_map: np.ndarray | None,
    box: np.ndarray | None,
    ground_truth: np.ndarray,
    longest: int,
) -> tuple[np.ndarray, np.ndarray]:
    """An image with its boxes, and the same under its localization map, both in the original's proportions.

    Args:
        image: (H, W, 3) uint8 RGB, the original.
        frame: where map and predicted box lie in it.
        localization_map: of the frame's size, or None.
        box: (4,) predicted, in the frame; None where nothing was found.
        ground_truth: (M, 4) in the original; M may be 0.
        longest: side of the pictures that are returned.

    Returns:
        Two (h, w, 3) uint8 RGB pictures, enlarged or shrunk. What a centre crop leaves out is dimmed.
    """
    scale = longest / max(image.shape[:2])
    plain = rescaled(image, longest)
    pictures = (plain, _under_map(plain, frame, localization_map))
    for picture in pictures:
        for truth in np.asarray(ground_truth).reshape(-1, 4):
            _outline(picture, truth * scale, TRUE)
        if box is not None:
            _outline(picture, frame.to_original(box)[0] * scale, PREDICTED)
    return pictures


def rescaled(image: np.ndarray, longest: int) -> np.ndarray:
    """(H, W, 3) uint8 shrunk or enlarged until its longer side is `longest`; a new array."""
    scale = longest / max(image.shape[:2])
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return cv2.resize(image, size, interpolation=cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR).copy()


def _under_map(picture: np.ndarray, frame: Frame, localization_map: np.ndarray | None) -> np.ndarray:
    if localization_map is None:
        return picture.copy()
    x, y, width, height = frame.crop
    canvas = np.full((frame.resized[1], frame.resized[0]), -1.0, np.float32)
    canvas[y : y + height, x : x + width] = localization_map
    seen = cv2.resize((canvas >= 0).astype(np.float32), picture.shape[1::-1], interpolation=cv2.INTER_LINEAR)[..., None]
    values = cv2.resize(np.maximum(canvas, 0), picture.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    grey = picture.mean(axis=2, keepdims=True)
    shown = seen * _heat(picture, values) + (1 - seen) * 0.45 * grey
    return np.ascontiguousarray(np.clip(shown, 0, 255).astype(np.uint8))


def heated(picture: np.ndarray, values: np.ndarray) -> np.ndarray:
    """A picture (h, w, 3) uint8 RGB under a map (H, W) in [0, 1] of the whole image."""
    resized = cv2.resize(values.astype(np.float32), picture.shape[1::-1], interpolation=cv2.INTER_LINEAR)
    return np.clip(_heat(picture, np.clip(resized, 0, 1)), 0, 255).astype(np.uint8)


def _heat(picture: np.ndarray, values: np.ndarray) -> np.ndarray:
    heat = cv2.applyColorMap((values * 255).astype(np.uint8), cv2.COLORMAP_TURBO)[..., ::-1].astype(np.float32)
    return 0.45 * picture.mean(axis=2, keepdims=True) + 0.55 * heat


def _outline(picture: np.ndarray, box: np.ndarray, colour: tuple[int, int, int]) -> None:
    height, width = picture.shape[:2]
    x0, y0, x1, y1 = np.clip(np.round(box), 0, [width - 1, height - 1, width - 1, height - 1]).astype(int).tolist()
    cv2.rectangle(picture, (x0, y0), (x1, y1), (0, 0, 0), 4)
    cv2.rectangle(picture, (x0, y0), (x1, y1), colour, 2)


def encode_jpeg(picture: np.ndarray) -> bytes:
    """(H, W, 3) uint8 RGB as a JPEG file's content."""
    done, content = cv2.imencode(".jpg", picture[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 82])
    if not done:
        raise RuntimeError("OpenCV could not encode a picture")
    return content.tobytes()


ENDINGS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".pdf": "PDF"}


def check_ending(path: Path) -> None:
    """Refuse a picture's name whose ending is of no format that `encode` writes.

    Raises:
        UserError: it is of none.
    """
    if path.suffix.lower() not in ENDINGS:
        raise UserError(f"the picture's ending is {path.suffix!r}", expected=".jpg, .png or .pdf")


def encode(picture: np.ndarray, ending: str) -> bytes:
    """(H, W, 3) uint8 RGB as the content of a file of one of `ENDINGS`, PNG and PDF at 300 pixels an inch."""
    kind = ENDINGS[ending.lower()]
    if kind == "JPEG":
        return encode_jpeg(picture)
    content = io.BytesIO()
    Image.fromarray(picture).save(content, kind, resolution=300)
    return content.getvalue()
