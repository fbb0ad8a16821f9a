"""`python -m app`: the same as `likely`, without what an installation puts on the PATH."""

from app.cli import main

main()
