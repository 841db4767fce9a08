"""Execute a notebook's cells in one namespace, and store what they print, without Jupyter.

    python notebooks/execute.py notebooks/localize.ipynb           # fails where a cell fails
    python notebooks/execute.py --write notebooks/localize.ipynb   # also stores the outputs

A cell's last expression is shown as Jupyter shows it; a picture (H, W, 3) uint8 is stored as a small JPEG.
"""

import ast
import base64
import contextlib
import io
import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SHOWN = "_shown"
LONGEST = 320
"""Side of a stored picture, in pixels."""


def run(source: str, values: dict[str, Any]) -> tuple[str, Any]:
    """Execute a cell, and return what it printed and its last expression's value."""
    tree = ast.parse(source)
    if tree.body and isinstance(tree.body[-1], ast.Expr):
        tree.body[-1] = ast.Assign([ast.Name(SHOWN, ast.Store())], tree.body[-1].value)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed):
        exec(compile(ast.fix_missing_locations(tree), "<cell>", "exec"), values)
    return printed.getvalue(), values.pop(SHOWN, None)


def outputs(printed: str, shown: Any) -> list[dict[str, Any]]:
    """Make a cell's outputs, as notebooks store them."""
    made: list[dict[str, Any]] = []
    if printed:
        made.append({"output_type": "stream", "name": "stdout", "text": printed.splitlines(keepends=True)})
    if isinstance(shown, np.ndarray) and shown.ndim == 3 and shown.dtype == np.uint8:
        picture, buffer = Image.fromarray(shown), io.BytesIO()
        picture.thumbnail((LONGEST, LONGEST))
        picture.save(buffer, "JPEG", quality=80)
        data = {"image/jpeg": base64.b64encode(buffer.getvalue()).decode()}
        made.append({"output_type": "display_data", "data": data, "metadata": {}})
    elif shown is not None:
        data = {"text/plain": repr(shown).splitlines(keepends=True)}
        made.append({"output_type": "execute_result", "data": data, "metadata": {}, "execution_count": None})
    return made


def execute(path: Path, write: bool = False) -> dict[str, Any]:
    """Execute every cell of a notebook in order, and return the namespace that they leave."""
    notebook = json.loads(path.read_text(encoding="utf-8"))
    values: dict[str, Any] = {"__name__": "__main__"}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            cell["outputs"] = outputs(*run("".join(cell["source"]), values))
    if write:
        path.write_text(json.dumps(notebook, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return values


if __name__ == "__main__":
    for name in sys.argv[1:]:
        if name != "--write":
            execute(Path(name), write="--write" in sys.argv)
