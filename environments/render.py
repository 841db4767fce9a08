"""Write the conda files: names from pyproject.toml's lists, versions from pins.txt. Run after changing either.

python environments/render.py            writes dgl_tf.yml grcam.yml spol.yml bas.yml all.yml tf221.yml
python environments/render.py --check    only says whether they are up to date
"""

import re
import sys
import tomllib
from functools import partial
from pathlib import Path

HERE = Path(__file__).resolve().parent
PAPERS = ("dgl_tf", "grcam", "spol", "bas")
NAMES = (*PAPERS, "all", "tf221")
PURPOSES = {
    "all": "all four papers, the tests and the demo",
    "tf221": "as all.yml, with TensorFlow 2.21 and numpy 2",
}
COMPILED = {"crf"}
"""Extras that a compiler builds; no environment has them."""


def pins_file(name: str) -> str:
    """The file beside this one that holds an environment's versions."""
    return "pins-tf221.txt" if name == "tf221" else "pins.txt"


def read_pins(file: str = "pins.txt") -> dict[str, str]:
    """Normalized package name to version, for everything that the environments of a file install."""
    lines = (HERE / file).read_text().splitlines()
    return dict(line.split("==") for line in lines if line and not line.startswith("#"))


def pins_of_tf221() -> str:
    """The text of pins-tf221.txt: pins.txt with what moved, and without what TensorFlow 2.15 alone needs."""
    gone = {"tensorflow-estimator", "tensorflow-io-gcs-filesystem"}
    pins = {name: version for name, version in read_pins().items() if name not in gone}
    lines = sorted(f"{name}=={version}" for name, version in {**pins, **read_pins("moved-tf221.txt")}.items())
    head = "# pins.txt with what stands in moved-tf221.txt; written by environments/render.py, don't edit"
    return "\n".join([head, *lines]) + "\n"


def required(name: str) -> list[str]:
    """The packages that an environment asks for by name; `all` and `tf221` ask for everything."""
    project = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    left_out = (*COMPILED, "proposals")
    chosen = [name, "weights"] if name in PAPERS else [extra for extra in extras if extra not in left_out]
    wanted = project["dependencies"] + [item for extra in chosen for item in extras[extra]]
    return sorted({normalize(re.split(r"[<>=!~\[; ]", item)[0]) for item in wanted})


def normalize(name: str) -> str:
    """A package's name as PyPI compares it."""
    return re.sub(r"[-_.]+", "-", name).lower()


def render(name: str) -> str:
    """The text of one environment's file."""
    file = pins_file(name)
    pins = read_pins(file)
    purpose = PURPOSES.get(name, f"what {name}/ needs")
    lines = [
        f"# {purpose}; written by environments/render.py from pyproject.toml and {file}, don't edit",
        f"name: wsol-{name.replace('_', '-')}",
        "channels:",
        "  - conda-forge",
        "dependencies:",
        "  - python=3.11",
        "  - pip",
        "  - pip:",
        f"      - -c {file}",
        *(f"      - {package}=={pins[package]}" for package in required(name)),
    ]
    return "\n".join(lines) + "\n"


def main() -> int:
    """Write or check; 1 when a file is out of date and was only to be checked."""
    check = "--check" in sys.argv
    files = {"pins-tf221.txt": pins_of_tf221, **{f"{name}.yml": partial(render, name) for name in NAMES}}
    stale = []
    for file, text in files.items():  # the pins first, which the other files are made from
        path = HERE / file
        if not path.is_file() or path.read_text() != text():
            stale.append(file)
            if not check:
                path.write_text(text())
                print(f"written: environments/{file}")
    if check:
        print("\n".join(f"environments/{file} is out of date" for file in stale) or "up to date")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
