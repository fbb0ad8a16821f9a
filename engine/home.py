"""The folder where likely keeps a person's data. Knows nothing of what is in it; light enough for the first paint."""

import os
import sys
from pathlib import Path


def home() -> Path:
    """$LIKELY_HOME, else the platform's folder for a user's data."""
    if named := os.environ.get("LIKELY_HOME"):
        return Path(named).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "likely"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "likely"
