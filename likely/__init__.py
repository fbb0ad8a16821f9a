"""The package that all of the program stands in: one name in site-packages.

In a wheel the four folders lie beside this file; in a clone they stand one level up, where `__path__` finds
them. This file runs before every module of ours, so it imports nothing that is not in every Python's start.
"""

from pathlib import Path

if not (Path(__file__).parent / "engine").is_dir():
    __path__.append(str(Path(__file__).parent.parent))
