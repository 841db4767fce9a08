"""Compares this project's own figures with those that are written down, and writes them down anew.

python -m tests.own             prints what differs; exits with 1 where anything does
python -m tests.own --write     also stores the figures, and says what CHANGES.md must hold
"""

import sys

from tests.own import record


def main() -> int:
    """The command line."""
    if set(sys.argv[1:]) - {"--write"}:
        print("usage: python -m tests.own [--write]", file=sys.stderr)
        return 2
    stored, found = record.read(), record.figures.compute()
    lines = record.differences(stored, found)
    print("\n".join(lines) or "every figure is as it is written down")
    if "--write" in sys.argv:
        missing = record.figures.GROUPS.keys() - found.keys()
        if missing:
            print(f"error: this environment can't compute {', '.join(sorted(missing))}; take `all`", file=sys.stderr)
            return 2
        record.write(found)
        print(
            f"written: {record.FILE}\nsay in CHANGES.md what changed and why, with the fingerprint {record.fingerprint()}"
        )
        return 0
    return 1 if lines else 0


if __name__ == "__main__":
    raise SystemExit(main())
