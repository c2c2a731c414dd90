"""`python -m keystep` is the command `keystep`."""

from keystep.cli import main

main()
