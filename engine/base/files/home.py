"""The folder where likely keeps a person's data. Knows nothing of what is in it; light enough for the first paint."""

import os
import sys
from pathlib import Path

from likely.engine.base.errors import ParameterError


def home() -> Path:
    """$LIKELY_HOME, else the platform's folder for a user's data.

    ParameterError for a user of whom the system knows no home, as containers have them.
    """
    if named := os.environ.get("LIKELY_HOME"):
        return expanded(named)
    if sys.platform != "darwin" and (data := os.environ.get("XDG_DATA_HOME")):
        return Path(data) / "likely"
    own = expanded("~")
    if not own.is_absolute():
        raise ParameterError("this user has no home folder: set LIKELY_HOME to the folder where data may be kept")
    return own / ("Library/Application Support" if sys.platform == "darwin" else ".local/share") / "likely"


def expanded(path: str | Path) -> Path:
    """A path as a person writes it, with `~` for their home; for a user that there is not, it stays as written."""
    return Path(os.path.expanduser(path))
