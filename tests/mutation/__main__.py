"""Runs the mutation check; exits with 1 where a module falls below 90 % or a survivor is not listed.

python -m tests.mutation                               every module
python -m tests.mutation common.metrics common.boxes   some
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
    campaign.install(options.tool)
    options.out.mkdir(parents=True, exist_ok=True)
    known, failed = campaign.listed(), False
    for module in options.modules or campaign.MODULES:
        start = time.monotonic()
        verdict = campaign.run(module, options.tool, options.out / f"{module}.log")
        new, gone = campaign.compare(verdict, known)
        print(
            f"{module}: {verdict.killed + len(verdict.survived)} mutants, {verdict.killed} killed "
            f"({verdict.percent:.1f} %), {len(verdict.survived)} survived, {len(new)} of them not listed, "
            f"{time.monotonic() - start:.0f} s",
            flush=True,
        )
        for mutant in gone:
            print(f"  listed, but killed: {mutant.function}: {mutant.code}  ->  {mutant.mutant}")
        rows = options.out / f"{module}.json"
        rows.unlink(missing_ok=True)
        if new:
            rows.write_text(campaign.as_rows(new) + "\n")
            print(f"  the new survivors: {rows}")
        failed |= bool(new) or bool(gone) or verdict.percent < campaign.LEAST
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
