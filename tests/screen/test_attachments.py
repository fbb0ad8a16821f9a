"""Attachments of a message: files that are named, completed and pasted; what was said before; blocks of code."""

import json
import os
from pathlib import Path

import pytest

from likely.app.tui.chat import attach
from likely.engine.base.errors import DataError


def test_files_that_a_prompt_names_are_attached(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("words é\n\n")
    (tmp_path / "two words.md").write_text("```\ncode\n````\n")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    (tmp_path / "folder").mkdir()
    found = attach.attachments('see @a.txt and @"two words.md" x@a.txt @nobody @')
    assert [(each.name, each.text) for each in found] == [
        ("a.txt", "words é\n\n"),
        ("two words.md", "```\ncode\n````\n"),
    ]
    assert (
        attach.joined("look  ", found) == "look\n\n```a.txt\nwords é\n```\n\n`````two words.md\n```\ncode\n````\n`````"
    )
    assert attach.joined("  ", found[:1]) == "```a.txt\nwords é\n```" and attach.joined("words", []) == "words"
    for text, line in (
        ("@folder", "is a folder"), ("@./none.txt", "there is no file none.txt"), ('@"none"', "there is no file none"),
        ("@bytes", "is not UTF-8 text"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=line):
            attach.attachments(text)
    (tmp_path / "a.txt").write_text("x" * 4_000_000)
    assert len(attach.read(tmp_path / "a.txt").text) == 4_000_000
    (tmp_path / "a.txt").write_text("x" * 4_000_001)
    with pytest.raises(DataError, match=r"a.txt has 4.0 MB: at most 4 MB can be attached"):
        attach.read(tmp_path / "a.txt")
    with pytest.raises(DataError, match="cannot be read: No such file"):
        attach.read(tmp_path / "gone")


@pytest.mark.parametrize(
    ("text", "line"),
    [("@none.txt", "none.txt"), ("@none", ""), ("@none.", ""), ("@a.txt @b.md", "b.md"), ("x", ""), ("a@b.de", "")],
)
def test_a_word_that_looks_like_a_file_is_spoken_of(
    text: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.txt").write_text("")
    assert attach.mistaken(text) == (f"there is no file {line} here: it was sent as a word" if line else "")


def test_names_of_files_are_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("ab.txt", "ac", ".hidden", "b"):
        (tmp_path / name).write_text("")
    (tmp_path / "abc").mkdir()
    (tmp_path / "abc" / "in").write_text("")
    assert attach.complete("see @a") == ["see @ab.txt", "see @abc/", "see @ac"]
    assert attach.complete("@") == ["@ab.txt", "@abc/", "@ac", "@b"]
    (tmp_path / "my notes").mkdir()
    (tmp_path / "my notes" / "of it.txt").write_text("")
    assert attach.complete("see @my") == ['see @"my notes/'] and attach.complete('@"my notes/of') == [
        '@"my notes/of it.txt"'
    ]
    assert attach.complete("@.h") == ["@.hidden"] and attach.complete("@abc/") == ["@abc/in"]
    assert attach.complete("@none/x") == attach.complete("words") == attach.complete("x@a") == []
    for number in range(60):
        (tmp_path / f"many{number:02}").write_text("")
    assert len(attach.complete("@many")) == 50


def test_a_path_that_is_pasted_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("")
    (tmp_path / "b c.txt").write_text("")
    plain, spaced = f"{tmp_path}/a.txt", f"{tmp_path}/b c.txt"
    for text in (plain, f" {plain}\n", f"file://{plain}", f"'{plain}'"):
        assert attach.pasted(text) == f"@{plain}"
    for text in (spaced, spaced.replace(" ", "\\ "), f"file://{spaced.replace(' ', '%20')}", f'"{spaced}"'):
        assert attach.pasted(text) == f'@"{spaced}"'
    for text in ("", "a.txt", f"{plain}\n{plain}", f"{tmp_path}", f"{tmp_path}/none", "x" * 1001, "/" + "x" * 999):
        assert attach.pasted(text) is None


@pytest.mark.parametrize(("before", "code"), [(0, "one"), (4, "one"), (20, "one"), (21, "two\n~~~"), (99, "two\n~~~")])
def test_the_code_block_is_the_last_that_begins_before_a_place(before: int, code: str) -> None:
    text = "abc\n```py\none\n```\nde\n````\ntwo\n~~~\n````\n```\nopen"
    assert text.index("````\ntwo") == 21
    assert attach.code_block(text, before) == code
    assert attach.code_block("no code", 3) is None


def test_prompts_are_remembered(tmp_path: Path) -> None:
    path = tmp_path / "folder" / "history.jsonl"
    assert attach.read_history(path) == []
    for prompt in ("one", "two\nlines é"):
        attach.append_history(path, prompt)
    path.write_text(path.read_text() + "{broken\n[1]\n" + json.dumps("three") + "\n")
    assert attach.read_history(path) == ["one", "two\nlines é", "three"]
    path.write_text("".join(f'"{n}"\n' for n in range(9_000)))
    assert attach.read_history(path) == [str(n) for n in range(8_500, 9_000)]
    attach.append_history(tmp_path / "folder" / "history.jsonl" / "x", "lost")  # nothing else fails
    os.mkfifo(tmp_path / "pipe")  # nobody is at its other end
    attach.append_history(tmp_path / "pipe", "lost")
    assert attach.read_history(tmp_path / "pipe") == []
