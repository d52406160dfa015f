"""`python -m aisle`, the same as `aisle`."""

from aisle import main

main(prog_name="aisle")
