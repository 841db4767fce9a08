"""Annotation files in XML, which may come from anywhere: the parser, and the boxes of PASCAL's kind."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import defusedxml
import defusedxml.ElementTree
import numpy as np

from common.datasets.files.text import numbers
from common.measuring.boxes import as_boxes
from common.system.errors import UserError
from common.system.files import need_file


def parse_xml(path: Path) -> ElementTree.ElementTree:
    """The parsed file.

    Raises:
        UserError: missing, malformed, or an entity declaration in it.
    """
    need_file(path)
    try:
        return defusedxml.ElementTree.parse(path, forbid_dtd=True)
    except FileNotFoundError as error:
        raise UserError("no such annotation", where=path) from error
    except OSError as error:
        raise UserError(f"can't be read ({error.strerror})", where=path) from error
    except defusedxml.DefusedXmlException as error:
        raise UserError(
            "the XML declares a document type or entities", where=path, expected="plain elements"
        ) from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise UserError(f"malformed XML ({error})", where=path) from error


def read_annotation(path: Path) -> list[tuple[str, np.ndarray]]:
    """The objects of a PASCAL-style XML file, as (name, float64 `xmin ymin xmax ymax`).

    Raises:
        UserError: missing, malformed, an entity declaration in it, or a box that is not four finite numbers.
    """
    tree = parse_xml(path)
    objects: list[tuple[str, np.ndarray]] = []
    for element in tree.iter("object"):
        texts = [element.findtext(f"bndbox/{corner}") or "" for corner in ("xmin", "ymin", "xmax", "ymax")]
        box = numbers(texts, where=path, what=f"bndbox {len(objects) + 1}")
        if box[0] > box[2] or box[1] > box[3]:
            raise UserError(f"the box {' '.join(texts)} is inside out", where=path, expected="xmin ymin xmax ymax")
        objects.append(((element.findtext("name") or "").strip(), box))
    return objects


def boxes_of(objects: list[tuple[str, np.ndarray]], wnid: str) -> np.ndarray:
    """The boxes (N, 4) of the objects called `wnid`."""
    return as_boxes([box for name, box in objects if name == wnid])
