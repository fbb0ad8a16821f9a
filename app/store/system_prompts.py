"""Library of system prompts: those that a person has kept by name, in one file of likely's folder beside the presets.

Knows nothing of models, and not what is said to one.
"""

import json
import re
from contextlib import suppress
from pathlib import Path
from typing import Any

from likely.engine.base.errors import DataError
from likely.engine.base.files import foreign_json
from likely.engine.base.files.home import expanded
from likely.engine.base.files.whole_file import read_whole, write_whole

FILE = "system-prompts.json"
FILE_NAME = re.compile(r"\S+\.(txt|md)")


def kept(home: Path) -> dict[str, str]:
    """The texts by their names, in alphabetical order; what cannot be read is left out."""
    rows: dict[str, Any] = {}
    with suppress(DataError):
        rows = foreign_json.read(home / FILE)
    return {name: text for name, text in sorted(rows.items()) if isinstance(text, str)}


def keep(home: Path, name: str, text: str) -> None:
    """Keep a text under a name; an empty one takes away what is kept there. Raises DataError where the file cannot be
    read, since the others would be lost, or not be written."""
    rows = foreign_json.read(home / FILE) if (home / FILE).exists() else {}
    rows.pop(name, None)
    write_whole(home / FILE, [json.dumps(rows | ({name: text} if text else {}), indent=1, ensure_ascii=False)])


def read(home: Path, words: str) -> str:
    """The text that words stand for: what is kept under such a name, what is in such a file, or the words themselves.

    Raises DataError for a file that cannot be read as text, a folder, and a text file's name of which there is none.
    """
    texts = kept(home)
    if words in texts:
        return texts[words]
    path = expanded(words)
    with suppress(OSError, ValueError):  # words that no path can be
        if path.is_file():
            return read_whole(path).strip()
        if "/" in words and path.is_dir():
            raise DataError(f"a system prompt is words, one that was kept, or a file; {words} is a folder")
    if FILE_NAME.fullmatch(words):
        raise DataError(f"a system prompt is words, one that was kept, or a file; there is no file {words}")
    return words
