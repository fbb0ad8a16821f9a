"""The map of the folders is the one their docstrings give, and each names a file to read first that exists."""

import re
import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
MAP = runpy.run_path(str(ROOT / "docs" / "map.py"))
ENTRIES = re.findall(r"- `(.+?)`: (.*)", MAP["page"]())


def test_the_map_is_up_to_date() -> None:
    assert (ROOT / "docs" / "map.md").read_text() == MAP["page"](), "run python docs/map.py"


@pytest.mark.parametrize(("folder", "text"), ENTRIES, ids=[folder for folder, _ in ENTRIES])
def test_a_folder_names_a_file_to_read_first(folder: str, text: str) -> None:
    first = re.search(r"Read first: (\S+?)\.(?: |$)", text)
    assert first and (ROOT / folder / first[1]).exists()
