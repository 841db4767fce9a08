"""Tables and pictures of the READMEs, made of what benchmarks/table.sh measured and of what ./run_demo.sh left.

    benchmarks/table.sh CUB_200_2011 runs/table
    ./run_demo.sh
    python -m benchmarks.readme runs/table --demo runs/demo     # writes the tables, and draws the pictures
    python -m benchmarks.readme runs/table --check              # names the READMEs that hold other tables

A table stands between <!-- figures: NAME --> and <!-- end of figures -->, a picture between <!-- picture: NAME --> and
<!-- end of picture -->. Each says commits; a table says seeds and number of images too. Sentences around them are
written by hand, and read again after every change. A picture whose runs the demo lacks stays, and is named.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from benchmarks import readme_pictures
from common.measuring.protocols import PROTOCOLS
from common.results.tables import figure
from common.runs.provenance import TRAINING
from common.runs.reader import Predictions
from common.system.errors import UserError, run_command
from common.system.files import read_json, write_atomically, write_text
from common.system.options import parse

ROOT = Path(__file__).resolve().parent.parent
METHODS = {"cam": "CAM", "grcam": "GRCAM, refined map", "dgl": "DGL, Conv2d_9", "bas": "BAS", "spol": "SPOL"}
"""Methods of the table in its order, by the first word of their runs' names."""
BASELINES = {"whole image": "whole image", "best centred box": "best centred box (oracle)"}
SAME = {"dgl": "grcam"}
"""Protocols that share a column: DGL released no scoring, and is scored as GRCAM."""
TABLES = {
    "README.md": ("results", tuple(METHODS), ("validation",)),
    "bas/README.md": ("bas", ("cam", "bas"), ("released", "validation", "oracle")),
    "spol/README.md": ("spol", ("cam", "spol"), ("released", "validation", "oracle")),
    "grcam/README.md": ("grcam", ("cam", "grcam"), ("released", "validation", "oracle")),
}
"""Each README's table: its name, its methods, and the sources of its thresholds. DGL's own is of all layers, which
table.sh does not make."""


@dataclass(frozen=True)
class Write:
    """Write the READMEs' tables and pictures, or check the tables."""

    results: Annotated[Path | None, tyro.conf.Positional] = None
    """The folder that benchmarks/table.sh wrote; the tables stay if omitted."""
    demo: Path | None = None
    """The folder of ./run_demo.sh in runs/; the pictures stay if omitted."""
    check: bool = False
    """Write nothing, and fail where a README holds another table."""


@dataclass(frozen=True)
class Results:
    """Figures that table.sh measured.

    Attributes:
        rows: result lines, as `common.evaluate --json` writes them.
        accuracies: each run's classification Top-1 in percent, by its method.
        seeds, commits: of the trainings.
        images: in the test split.
        precisions: of the PyTorch trainings, `off` and `bf16` as their `--amp` says.
    """

    rows: list[dict[str, Any]]
    accuracies: dict[str, list[float]]
    seeds: list[int]
    commits: list[str]
    images: int
    precisions: tuple[str, ...] = ("off",)

    @classmethod
    def read(cls, folder: Path) -> "Results":
        """Read a folder of table.sh.

        Raises:
            UserError: there is none, or it is not done.
        """
        path = folder / "results.json"
        if not path.is_file():
            raise UserError("no results", where=path, do="let benchmarks/table.sh run to its end")
        found = read_json(path)
        manifests = [Predictions.open(Path(run["run"])).manifest for run in found["runs"]]
        accuracies: dict[str, list[float]] = {}
        for run, manifest in zip(found["runs"], manifests, strict=True):
            if manifest.frame == PROTOCOLS["bas"].frame and run["classification_top1"] is not None:
                accuracies.setdefault(manifest.method, []).append(run["classification_top1"])
        trainings = [manifest.training for manifest in manifests]
        commits = {str(process["git_commit"])[:7] for manifest in manifests for process in manifest.processes}
        seeds = {training["seed"] for training in trainings if "seed" in training}
        images = max(row["images"] for row in found["rows"])
        records = [read_json(path)["options"] for path in sorted(folder.glob(f"seed-*/**/{TRAINING}"))]
        precisions = {options["amp"] for options in records if "amp" in options}
        return cls(found["rows"], accuracies, sorted(seeds), sorted(commits), images, tuple(sorted(precisions)))

    def row(self, method: str, protocol: str, source: str) -> dict[str, Any] | None:
        """The line of a method under a protocol: the mean over seeds where several were trained.

        Raises:
            UserError: lines of several networks or layers, of which one table can't show one.
        """
        of_it = [row for row in self.rows if row["method"].split()[0] == method and row["protocol"] == protocol
                 and row["source"] == source]  # fmt: skip
        if len(several := {row["method"] for row in of_it}) > 1:
            raise UserError(f"several runs of {method}: {', '.join(sorted(several))}", expected="those of table.sh")
        return max(of_it, key=lambda row: row["seeds"], default=None)

    def baseline(self, name: str, protocol: str) -> float | None:
        """GT-known of boxes that never look at the image."""
        return next((row["gt_known"] for row in self.rows
                     if row["method"].startswith(name) and row["protocol"] == protocol), None)  # fmt: skip


def table(results: Results, methods: Sequence[str], sources: Sequence[str]) -> str:
    """A Markdown table with its sentence: GT-known, its spread over seeds, its threshold, and the 95 % interval."""
    protocols = [name for name in PROTOCOLS if name not in SAME]
    heads = [", ".join([name, *(other for other, shared in SAME.items() if shared == name)]) for name in protocols]
    top = ["", *(["threshold"] if len(sources) > 1 else ["classification Top-1"]), *heads]
    lines = [top, ["---"] * len(top)]
    for name, words in BASELINES.items():
        lines.append([words, "", *(figure(results.baseline(name, protocol), 1) for protocol in protocols)])
    for method in methods:
        for source in sources:
            cells = [_cell(results.row(method, protocol, source)) for protocol in protocols]
            if any(cells):
                second = source if len(sources) > 1 else _mean(results.accuracies.get(method, []))
                lines.append([METHODS[method], second, *cells])
    several = len(results.seeds) > 1
    seeds, commits = (", ".join(map(str, values)) for values in (results.seeds, results.commits))
    of = f"of images and of {len(results.seeds)} seeds together" if several else "of images alone"
    said = f"Seed{'s' * several} {seeds}; commit {commits}; {results.images} test images; "
    if "bf16" in results.precisions:
        said += "CAM, BAS and SPOL trained in bfloat16 mixed precision; "
    said += f"below each figure its 95 % interval, {of}" + (
        "; behind ± the seeds' standard deviation." if several else "."
    )
    return said + "\n\n" + "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _mean(values: Sequence[float]) -> str:
    return figure(sum(values) / len(values), 1) if values else ""


def _cell(row: dict[str, Any] | None) -> str:
    if row is None or row["gt_known"] is None:
        return ""
    threshold = "" if row["threshold"] is None else f" @{row['threshold']:.3g}"
    low, high = row["intervals"].get("gt_known", (None, None))
    spread = f" ±{row['spread']['gt_known']:.1f}" if "gt_known" in row["spread"] else ""
    return f"{figure(row['gt_known'], 1)}{spread}{threshold}" + ("" if low is None else f"<br>{low:.0f} to {high:.0f}")


def replaced(text: str, name: str, content: str, where: Path, kind: str = "figures") -> str:
    """A README with another table, or picture, in the place of that name.

    Raises:
        UserError: it has no such place, or several.
    """
    pattern = re.compile(rf"(<!-- {kind}: {re.escape(name)} -->\n).*?(\n<!-- end of {kind} -->)", re.DOTALL)
    if len(pattern.findall(text)) != 1:
        raise UserError(f"not one place <!-- {kind}: {name} -->", where=where)
    return pattern.sub(lambda found: f"{found[1]}\n{content}\n{found[2]}", text)


def write_tables(results: Results, check: bool) -> None:
    """Put every table into its README, and print which READMEs had another one.

    Raises:
        UserError: one had, and `check` forbids to write.
    """
    old = []
    for readme, (name, methods, sources) in TABLES.items():
        path = ROOT / readme
        text = path.read_text(encoding="utf-8")
        wanted = replaced(text, name, table(results, methods, sources), path)
        if wanted != text:
            old.append(readme)
            if not check:
                write_text(path, wanted)
    if check and old:
        raise UserError(f"other figures stand in {', '.join(old)}", do="run it without --check")
    print("\n".join(old) or "every table is as measured")


def draw_pictures(demo: Path, root: Path = ROOT) -> None:
    """Draw every picture whose runs the demo holds, and put it into its READMEs with the commits of those runs."""
    said = {}
    for name, picture in readme_pictures.PICTURES.items():
        try:
            content, said[name] = readme_pictures.made(demo, name)
        except UserError as error:
            print(f"{picture.file} stays as it is: {error}")
            continue
        write_atomically(root / picture.file, lambda file, content=content: file.write(content))
        print(picture.file)
    for readme, places in readme_pictures.PLACES.items():
        path = root / readme
        text = path.read_text(encoding="utf-8")
        for place in places:
            if place.name in said:
                text = replaced(
                    text, place.name, readme_pictures.shown(readme, place, said[place.name]), path, "picture"
                )
        write_text(path, text)


def main() -> None:
    """Run the command line."""
    options = parse(Write, prog="python -m benchmarks.readme", description=__doc__)
    if options.results is None and (options.demo is None or options.check):
        raise UserError("nothing to write was named", do="name what benchmarks/table.sh wrote, or --demo runs/demo")
    if options.results is not None:
        write_tables(Results.read(options.results), options.check)
    if options.demo is not None and not options.check:
        draw_pictures(options.demo)


if __name__ == "__main__":
    run_command(main)
