"""Tool server that reads one folder, and nothing outside: `list_files` and `read_file`. `python -m` starts it."""

import sys
from pathlib import Path

from likely.app.tools.serving import serve

MOST, LARGEST = 500, 1 << 20  # files that are listed; bytes of one that is read


class Folder:
    """Files below `root`, which is resolved; links that lead out of it are none of them."""

    def __init__(self, root: Path) -> None:
        self._root = root.resolve()

    def list_files(self) -> str:
        """The paths of all files, with their sizes in bytes, a line each."""
        files = [path for path in sorted(self._root.rglob("*")) if path.is_file() and self._within(path)]
        lines = [f"{path.relative_to(self._root)}  {path.stat().st_size}" for path in files[:MOST]]
        return "\n".join([*lines, *([f"and {len(files) - MOST} more"] if len(files) > MOST else [])]) or "no files"

    def read_file(self, path: str) -> str:
        """The text of a file, by its path as list_files has it."""
        file = self._root / path
        if not self._within(file) or not file.is_file():
            raise ValueError(f"there is no file {path[:200]} here: list_files says which there are")
        if file.stat().st_size > LARGEST:
            raise ValueError(f"{path} has more than {LARGEST >> 20} MB")
        return file.read_text(encoding="utf-8", errors="replace")

    def _within(self, path: Path) -> bool:
        return path.resolve().is_relative_to(self._root)


def main() -> None:
    folder = Folder(Path(sys.argv[1]))
    serve("folder", folder.list_files, folder.read_file)


if __name__ == "__main__":
    main()
