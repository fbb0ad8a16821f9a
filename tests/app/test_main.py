"""Entry of the command line: exit codes and the one line of every end; standard streams; the word of several ranks."""

import errno
import io
import os
import signal
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest
from click.testing import CliRunner

import app.__main__
from app import cli, interruption
from app.cli import likely, streams, together
from app.interruption import Interruption, stopped_by_signals
from engine import ranks
from engine.errors import DataError
from engine.ranks.together import End

Captured = pytest.CaptureFixture[str]


def ends(monkeypatch: pytest.MonkeyPatch, does: Any) -> int:
    """The exit code of a command line whose verb does this."""

    def main(**more: Any) -> Any:
        assert more == {"standalone_mode": False, "prog_name": "likely"}
        return does()

    monkeypatch.setattr(cli.likely, "main", main)
    return cli._run()


def raises(error: BaseException) -> Any:
    def does() -> None:
        raise error

    return does


def test_every_end_has_its_code_and_its_line(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    context = click.Context(click.Command("verb"), info_name="likely verb")
    full = OSError(errno.ENOSPC, "no room")
    for does, code, line in (
        (lambda: None, 0, ""), (lambda: 3, 3, ""), (lambda: "word", 0, ""), (raises(click.exceptions.Exit(7)), 7, ""),
        (raises(click.UsageError("no\x1b")), 2, "Error: no␛"),
        (raises(click.FileError("f", "gone\x1b")), 1, "'f': gone␛"),
        (raises(DataError("bad\nline")), 1, "likely: bad line"), (raises(SystemExit(4)), 4, ""),
        (raises(SystemExit("x")), 0, ""),
        (raises(click.Abort()), 130, "likely: stopped"), (raises(KeyboardInterrupt()), 130, "likely: stopped"),
        (raises(full), 1, "likely: a file could not be written: no room"),
        (raises(OSError(errno.EACCES, "denied", "f\n")), 1, "likely: f : denied"),
        (raises(click.UsageError("no", context)), 2, "Error: no"),
    ):  # fmt: skip
        assert ends(monkeypatch, does) == code
        err = capsys.readouterr().err
        assert err.rstrip("\n").endswith(line) and bool(err) is bool(line)
    for error in (ValueError("a bug"), OSError(errno.EACCES, "denied")):
        with pytest.raises(type(error)):
            ends(monkeypatch, raises(error))
    dropped: list[Any] = []
    monkeypatch.setattr(streams, "discard", dropped.append)
    assert (
        ends(monkeypatch, raises(BrokenPipeError())) == 0
        and ends(monkeypatch, raises(streams.OutputError(28, "full"))) == 1
    )
    assert dropped == [sys.stdout, sys.stdout]
    assert capsys.readouterr().err == "likely: standard output cannot be written: full\n"


def test_too_many_arguments_are_told_what_to_do() -> None:
    for words, said in (
        (
            ["run", "a", "b"],
            "Got unexpected extra argument (b). Quote words that belong together; a model is named with --model.",
        ),
        (["pull", "a", "b"], "Got unexpected extra argument (b). Quote words that belong together."),
        (["quantize", "a", "b"], "Got unexpected extra argument (b). Quote words that belong together."),
    ):
        try:
            likely.main(words, standalone_mode=False)
        except click.UsageError as error:
            assert cli._helped(error).message == said
        else:
            raise AssertionError(words)
    plain = click.UsageError("else")
    assert cli._helped(plain) is plain


def test_a_verb_that_is_none_is_told_which_there_are() -> None:
    said = CliRunner().invoke(likely, ["ruin"])
    assert (
        said.exit_code == 2 and "The commands are chat, run, fill, reason, " in said.output and ".. " not in said.output
    )
    shown = CliRunner().invoke(likely, ["-h"]).output
    assert all(f"\n  {verb} " in shown for verb in cli.VERBS) and "Commands:" in shown
    assert CliRunner().invoke(likely, ["--version"]).output.startswith("likely ")
    assert likely.get_command(click.Context(likely), "ruin") is None  # type: ignore[attr-defined]


def test_no_verb_is_the_chat(monkeypatch: pytest.MonkeyPatch) -> None:
    from app.cli import chat

    called: list[int] = []
    monkeypatch.setattr(chat, "command", click.Command("chat", callback=lambda: called.append(1)))
    assert CliRunner().invoke(likely, []).exit_code == 0 and called == [1]
    assert CliRunner().invoke(likely, ["pull"]).exit_code == 2 and called == [1]


def test_the_entry_settles_and_leaves(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    done: list[str] = []
    settled = Interruption(lambda: None)
    monkeypatch.setattr(interruption, "settle", lambda: done.append("settle") or settled)
    monkeypatch.setattr(streams, "settle", lambda: done.append("streams"))
    monkeypatch.setattr(interruption, "leave", lambda: done.append("leave"))
    for name in ("MLX_RANK", "OMPI_COMM_WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(cli, "_run", lambda: 5)
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 5 and done == ["settle", "streams", "leave"]
    monkeypatch.setattr(cli, "_run", raises(ImportError("half")))
    with pytest.raises(ImportError):
        cli.main()
    settled.came = signal.SIGINT
    with pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 130 and capsys.readouterr().err == "likely: stopped\n"
    monkeypatch.setattr(together, "run", lambda run: 9)
    for name in ("MLX_RANK", "OMPI_COMM_WORLD_SIZE"):
        monkeypatch.setenv(name, "0")
        with pytest.raises(SystemExit) as end:
            cli.main()
        assert end.value.code == 9
        monkeypatch.delenv(name)


def test_a_signal_while_the_program_is_imported_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli, "main", lambda: None)
    app.__main__.main()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_DFL
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    app.__main__.main()
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


def test_the_second_signal_ends_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    ended: list[int] = []
    monkeypatch.setattr(os, "_exit", ended.append)
    calls: list[int] = []
    with stopped_by_signals(lambda: calls.append(1)) as held:
        assert held.came == 0
        held(signal.SIGTERM, None)
        assert held.came == signal.SIGTERM and calls == [1] and ended == []
        held(signal.SIGINT, None)
        assert ended == [130]
    mine = interruption.settle()
    assert signal.getsignal(signal.SIGTERM) is mine is signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        mine(signal.SIGINT, None)
    with pytest.raises(KeyboardInterrupt), stopped_by_signals(lambda: None):
        raise AssertionError("a signal came before")
    assert signal.getsignal(signal.SIGTERM) is mine
    interruption.leave()
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with stopped_by_signals(lambda: None) as held:
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN and signal.getsignal(signal.SIGINT) is held


# -- standard streams ------------------------------------------------------------------------------------------------


def test_a_full_output_is_named_and_a_full_error_dropped(tmp_path: Path) -> None:
    if not os.path.exists("/dev/full"):
        pytest.skip("no device that is always full")
    with streams._Naming("/dev/full", "w") as full, pytest.raises(streams.OutputError) as error:
        full.write(b"x")
    assert error.value.errno == errno.ENOSPC and error.value.strerror
    with streams._Dropping("/dev/full", "w") as full:
        assert full.write(b"abc") == 3
    for kind in (streams._Naming, streams._Dropping):
        with kind(str(tmp_path / "f"), "w") as file:
            assert file.write(b"abcd") == 4
    reader, writer = os.pipe()
    os.close(reader)
    before = signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    with streams._Naming(writer, "w") as gone, pytest.raises(BrokenPipeError):
        gone.write(b"x")
    signal.signal(signal.SIGPIPE, before)


def test_a_terminal_gets_text_alone() -> None:
    raw = io.BytesIO()
    stream = streams._Terminal(raw, "utf-8", write_through=True)
    assert stream.write("a\x1b[2Jb\x1b[1m") == 10 and raw.getvalue() == "a␛[2Jb\x1b[1m".encode()


def test_what_goes_to_no_terminal_is_data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open(tmp_path / "f", "w", encoding="latin-1", errors="backslashreplace") as old:
        made = streams._like(old, io.BufferedWriter(io.FileIO(tmp_path / "g", "w")))
        assert type(made) is io.TextIOWrapper and (made.encoding, made.errors) == ("latin-1", "backslashreplace")
        assert (made.line_buffering, made.write_through) == (False, False)
        monkeypatch.setattr(sys, "__stderr__", old)
        assert type(streams._like(old, io.BufferedWriter(io.FileIO(tmp_path / "h", "w")))) is streams._Terminal


def test_a_number_that_is_free_is_taken(tmp_path: Path) -> None:
    number = os.open(os.devnull, os.O_RDONLY)
    os.close(number)
    high = number + 40
    streams._occupy(high)
    assert os.fstat(high) == os.stat(os.devnull) or os.get_inheritable(high)
    assert os.get_inheritable(high)
    streams._occupy(high)
    os.close(high)
    with open(tmp_path / "f", "w") as file:
        before = os.fstat(file.fileno()).st_ino
        streams._occupy(file.fileno())
        assert os.fstat(file.fileno()).st_ino == before
        streams.discard(file)
        file.write("gone")
    assert (tmp_path / "f").read_text() == ""


def test_streams_are_made_usable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = {name: open(tmp_path / name, "w", encoding="ascii") for name in ("stdout", "stderr")}  # noqa: SIM115
    for name, file in files.items():
        monkeypatch.setattr(sys, name, file)
        monkeypatch.setattr(sys, f"__{name}__", file)
    streams.settle()
    out, err = sys.stdout, sys.stderr
    assert out is not files["stdout"] and err is not files["stderr"]
    assert isinstance(out, io.TextIOWrapper) and isinstance(out.buffer.raw, streams._Naming)  # type: ignore[attr-defined]
    assert (
        isinstance(err.buffer.raw, streams._Dropping)
        and type(err) is streams._Terminal
        and type(out) is io.TextIOWrapper
    )  # type: ignore[attr-defined]
    out.write("é\udcff"), err.write("é\x1b")
    out.flush(), err.flush()
    assert (tmp_path / "stdout").read_bytes() == "é\\udcff".encode() and (
        tmp_path / "stderr"
    ).read_bytes() == "é␛".encode()
    monkeypatch.undo()
    for file in files.values():
        file.close()


# -- several ranks ---------------------------------------------------------------------------------------------------


class Ended(Exception):
    """The process would have ended with this code."""


@pytest.fixture
def rank(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """A launch of which this process is a rank; nothing of it is real, and no second passes."""
    note = SimpleNamespace(rank=0, here=1, said=io.StringIO(), slept=[], ends=[], finished=0)

    def leave(code: int) -> None:
        raise Ended(code)

    joined = SimpleNamespace(
        group=None, end=lambda line: note.ends.append(line), finish=lambda: setattr(note, "finished", 1)
    )
    monkeypatch.setattr(os, "_exit", leave)
    monkeypatch.setattr(together.time, "sleep", note.slept.append)
    monkeypatch.setattr(together, "launched", lambda: SimpleNamespace(rank=note.rank, here=note.here))
    monkeypatch.setattr(together, "join", lambda launch, watch: note.__dict__.update(watch=watch) or joined)
    monkeypatch.setattr(together, "_quiet", lambda number: note.said)
    monkeypatch.setattr(together, "_outlive_the_launcher", lambda: None)
    return note


def test_a_rank_ends_with_its_own_code(rank: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENBLAS_NUM_THREADS", raising=False)
    with pytest.raises(Ended) as end:
        together.run(lambda: 0)
    assert (
        end.value.args == (0,) and rank.finished == 1 and rank.ends == [] and "OPENBLAS_NUM_THREADS" not in os.environ
    )
    monkeypatch.setattr(os, "cpu_count", lambda: 9)
    rank.here = 4
    with pytest.raises(Ended) as end:
        together.run(lambda: 2)
    assert (
        end.value.args == (2,) and rank.ends == [""] and rank.slept == [] and os.environ["OPENBLAS_NUM_THREADS"] == "2"
    )
    rank.rank = 1
    monkeypatch.setattr(sys, "stderr", io.StringIO("x\nlikely: it broke\n"))
    with pytest.raises(Ended):
        together.run(lambda: 1)
    assert rank.ends[1:] == ["rank 1: it broke"] and rank.slept == [together.LAST_WORD_S]
    with pytest.raises(Ended):
        together.run(lambda: 130)
    assert len(rank.ends) == 2 and rank.finished == 1
    monkeypatch.delenv("OPENBLAS_NUM_THREADS")


def test_no_launch_is_one_process_and_a_wrong_one_a_line(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured, rank: SimpleNamespace
) -> None:
    monkeypatch.setattr(together, "launched", lambda: None)
    assert together.run(lambda: 6) == 6
    monkeypatch.setattr(together, "launched", raises(DataError("no\nhosts")))
    assert together.run(lambda: 6) == 1 and capsys.readouterr().err == "likely: no hosts\n"
    monkeypatch.setattr(together, "launched", lambda: SimpleNamespace(rank=0, here=1))
    monkeypatch.setattr(together, "join", lambda *_: raises(DataError("no\nring"))())
    with pytest.raises(Ended) as end:
        together.run(lambda: 6)
    assert end.value.args == (1,) and rank.said.getvalue() == "likely: no ring\n"


@pytest.mark.parametrize(
    ("number", "end", "said", "slept"),
    [
        (0, End(1, "why\nnow", lost=False), "likely: why now\n", [0.5]),
        (0, End(1, "why", lost=True), "likely: why\n", []),
        (0, End(0, "why", lost=True), "", []), (1, End(0, "why", lost=True), "likely: why\n", []),
        (1, End(0, "why", lost=False), "", []),
        (2, End(0, "why", lost=True), "", []), (0, End(0, "", lost=False), "", [0.5]),
    ],
)  # fmt: skip
def test_one_rank_says_why_it_ended(
    rank: SimpleNamespace, number: int, end: End, said: str, slept: list[float]
) -> None:
    with pytest.raises(Ended) as left:
        together._ended(end, number, rank.said)
    assert left.value.args == (1,) and rank.said.getvalue() == said and rank.slept == slept


def test_a_fault_in_a_rank_is_its_trace(rank: SimpleNamespace, capsys: Captured) -> None:
    assert together._guarded(lambda: 4) == 4
    for error, waits in ((ValueError("x"), 0), (RuntimeError("x"), 0), (RuntimeError("[ring] gone"), 1)):
        assert together._guarded(raises(error)) == 1 and len(rank.slept) == waits
        assert str(error) in capsys.readouterr().err


def test_ranks_do_together_what_they_can(monkeypatch: pytest.MonkeyPatch) -> None:
    together.check("serve")
    monkeypatch.setattr(ranks, "joined", lambda: object())
    for verb in together.VERBS:
        together.check(verb)
    for verb, name in (("serve", "serve"), (None, "chat")):
        with pytest.raises(click.UsageError, match=f"{name} is one process's work: start it without mlx.launch"):
            together.check(verb)
    monkeypatch.setattr(together, "VERBS", ("run",))
    monkeypatch.setenv("MLX_RANK", "0")
    assert "serve is one process's work" in CliRunner().invoke(likely, ["serve"]).output
