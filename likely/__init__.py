"""The package that all of the program stands in: one name in site-packages.

In a wheel the four folders lie beside this file; in a clone they stand one level up, where `__path__` finds
them. This file runs before every module of ours, so it imports nothing that is not in every Python's start.
"""

import os

if not os.path.isdir(os.path.join(os.path.dirname(__file__), "engine")):
    __path__.append(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
