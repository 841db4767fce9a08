"""Runs the mutation check; exits with 1 where a module falls below 90 % or a survivor is not listed.

python -m tests.mutation                               every module
python -m tests.mutation common.measuring.metrics common.measuring.boxes   some
"""

import argparse
import sys
import time
from pathlib import Path

from tests.mutation import campaign


def main() -> int:
    """The command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.mutation", description=__doc__.split("\n")[0])
    parser.add_argument("modules", nargs="*", metavar="MODULE", help=f"of {', '.join(campaign.MODULES)}; default all")
    parser.add_argument("--out", type=Path, default=Path("runs/mutation"), help="folder for logs and new survivors")
    parser.add_argument("--tool", type=Path, default=Path(".envs/mutmut"), help="folder that mutmut is installed in")
    options = parser.parse_args()
    unknown = set(options.modules) - campaign.MODULES.keys()
    if unknown:
        parser.error(f"no mutation check of {', '.join(sorted(unknown))}, expected of {', '.join(campaign.MODULES)}")
    options.out.mkdir(parents=True, exist_ok=True)
    known = campaign.listed()
    try:
        campaign.install(options.tool)
        good = [check(module, known, options.out, options.tool) for module in options.modules or campaign.MODULES]
    except RuntimeError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return int(not all(good))


def check(module: str, known: list[campaign.Mutant], out: Path, tool: Path) -> bool:
    """Test a module's mutants, say what became of them, and write rows for new survivors; whether all is as it should be."""
    start = time.monotonic()
    verdict = campaign.run(module, tool, out / f"{module}.log")
    new, gone = campaign.compare(verdict, known)
    print(
        f"{module}: {verdict.killed + len(verdict.survived)} mutants, {verdict.killed} killed "
        f"({verdict.percent:.1f} %), {len(verdict.survived)} survived, {len(new)} of them not listed, "
        f"{time.monotonic() - start:.0f} s",
        flush=True,
    )
    for mutant in gone:
        print(f"  listed, but killed or gone: {mutant.function}: {mutant.code}  ->  {mutant.mutant}")
    rows = out / f"{module}.json"
    rows.unlink(missing_ok=True)
    if new:
        rows.write_text(campaign.as_rows(new) + "\n")
        print(f"  the new survivors: {rows}")
    return not new and not gone and verdict.percent >= campaign.LEAST


if __name__ == "__main__":
    sys.exit(main())
