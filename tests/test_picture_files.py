"""A text beside its file: what a difference says, and when the file is written."""

from pathlib import Path

import pytest

from tests.pictures import assert_picture, is_picture
from tests.tui.inks import LETTERS


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A picture of ten lines, compared and not written."""
    monkeypatch.delenv("LIKELY_PICTURES", raising=False)
    path = tmp_path / "kept.txt"
    path.write_text("".join(f"{n}\n" for n in range(10)), encoding="utf-8")
    return path


def test_lines_and_their_text_are_the_picture(kept: Path) -> None:
    assert_picture(str(kept), map(str, range(10)))
    assert_picture(str(kept), kept.read_text())
    assert is_picture(str(kept), kept.read_text()) and not is_picture(str(kept), kept.read_text()[:-1])


@pytest.mark.parametrize(
    ("made", "line", "got", "wanted"),
    [
        ("0\n1\n2\n3\n4\n5\n6\n7\nx\n9\n", 9, "2\n3\n4\n5\n6\n7\nx\n9\n", "2\n3\n4\n5\n6\n7\n8\n9\n"),
        ("x\n", 1, "x\n", "0\n1\n2"),
        ("0\n1", 3, "0\n1", "0\n1\n2\n3\n4"),
        ("0\n1\n2\n3\n4\n5\n6\n7\n8\n9", 11, "4\n5\n6\n7\n8\n9", "4\n5\n6\n7\n8\n9\n"),  # no end of the last line
    ],
)
def test_a_difference_names_the_file_and_shows_the_first_lines_that_differ(
    kept: Path, made: str, line: int, got: str, wanted: str
) -> None:
    with pytest.raises(AssertionError) as said:
        assert_picture(str(kept), made)
    assert str(said.value) == f"{kept} looks different from line {line} on: got\n{got}\nwanted\n{wanted}"


def test_a_picture_that_is_not_there_is_no_agreement_and_is_written_where_that_is_asked(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = kept.parent / "folder" / "new.txt"
    with pytest.raises(FileNotFoundError):
        assert_picture(str(new), ["é"])
    monkeypatch.setenv("LIKELY_PICTURES", "write")
    for path in (new, kept):
        assert_picture(str(path), ["é"])
        assert path.read_bytes() == "é\n".encode()


def test_every_ink_has_a_letter_of_its_own() -> None:
    used = "".join(LETTERS.values()).replace(".", "")
    assert len(set(used)) == len(used)
