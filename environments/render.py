"""Write the conda files: names from pyproject.toml's lists, versions from pins.txt. Run after changing either.

python environments/render.py            writes dgl_tf.yml grcam.yml spol.yml bas.yml all.yml
python environments/render.py --check    only says whether they are up to date
"""

import re
import sys
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAPERS = ("dgl_tf", "grcam", "spol", "bas")


def read_pins() -> dict[str, str]:
    """Normalized package name to version, for everything that any environment installs."""
    lines = (HERE / "pins.txt").read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def required(name: str) -> list[str]:
    """The packages that an environment asks for by name; `all` asks for everything."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    wanted = project["dependencies"] + [
        item for extra in (extras if name == "all" else [name, "weights"]) for item in extras[extra]
    ]
    return sorted({normalize(re.split(r"[<>=!~\[; ]", item)[0]) for item in wanted})


def normalize(name: str) -> str:
    """A package's name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def render(name: str) -> str:
    """The text of one environment's file."""
    pins = read_pins()
    purpose = "all four papers, the tests and the demo" if name == "all" else f"what {name}/ needs"
    lines = [
        f"# {purpose}; written by environments/render.py from pyproject.toml and pins.txt, don't edit",
        f"name: wsol-{name.replace('_', '-')}",
        "channels:",
        "  - conda-forge",
        "dependencies:",
        "  - python=3.11",
        "  - pip",
        "  - pip:",
        "      - -c pins.txt",
        *(f"      - {package}=={pins[package]}" for package in required(name)),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write or check; 1 when a file is out of date and was only to be checked."""
    stale = [name for name in (*PAPERS, "all") if not _up_to_date(name)]
    if "--check" in sys.argv:
        print("\n".join(f"environments/{name}.yml is out of date" for name in stale) or "up to date")
        return 1 if stale else 0
    for name in stale:
        (HERE / f"{name}.yml").write_text(render(name))
        print(f"written: environments/{name}.yml")
    return 0


def _up_to_date(name: str) -> bool:
    path = HERE / f"{name}.yml"
    return path.is_file() and path.read_text() == render(name)


if __name__ == "__main__":
    sys.exit(main())
