"""`python -m wsol` is the command `wsol`."""

from wsol.command import main

if __name__ == "__main__":
    main()
