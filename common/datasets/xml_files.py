"""Reading annotation files in XML, which may come from anywhere."""

import xml.etree.ElementTree as ElementTree
from pathlib import Path

import defusedxml
import defusedxml.ElementTree

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
