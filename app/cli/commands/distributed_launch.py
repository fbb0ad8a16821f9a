"""The command line under a launcher, once a rank: rank 0 speaks for all, and none outlives another.

The other ranks are silent. Whatever ends the run, on whichever rank, is one line on rank 0's stderr and an exit code of
every process; where rank 0 is gone itself, rank 1 says so.
"""

import io
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable
from typing import TextIO

import click

from likely.app.words.heat import sanitize_line
from likely.engine.base import distributed
from likely.engine.base.distributed.launch import launched
from likely.engine.base.distributed.together import End, join
from likely.metal.errors import LikelyError

VERBS = ("run", "chat", "pretrain", "tune", "eval", "synth")  # what several ranks can do together
OWN_WORD_S = 0.5  # a fault that all ranks have, rank 0 tells in its own words
LAST_WORD_S = 5.0  # for rank 0 to tell what another had to say


def check(verb: str | None) -> None:
    """Refuse a verb that is one process's work, and the full screen."""
    if distributed.joined() is not None and verb not in VERBS:
        raise click.UsageError(f"{verb or 'chat'} is one process's work: start it without mlx.launch")


def run(verb: Callable[[], int]) -> int:
    """The verb's exit code; where there are several ranks, does not return but ends the process with it."""
    try:
        launch = launched()
    except LikelyError as error:
        click.echo(f"likely: {sanitize_line(str(error))}", err=True)
        return 1
    if launch is None:
        return verb()
    out = _quiet(launch.rank)
    if launch.here > 1:  # the BLAS's threads wait for a core by spinning: those of all ranks must find one
        os.environ.setdefault("OPENBLAS_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // launch.here)))
    _outlive_the_launcher()
    try:
        from likely.metal import mx

        mx.default_device()  # imported before ranks meet, so that they open the group at the same time
        joined = join(launch, lambda end: _ended(end, launch.rank, out))
        joined.group  # noqa: B018
    except LikelyError as error:
        out.write(f"likely: {sanitize_line(str(error))}\n")
        os._exit(1)
    code = _guarded(verb)
    if code == 0:
        joined.finish()
    elif launch.rank == 0:
        joined.end("")
    else:
        if code == 1:
            errors = sys.stderr.getvalue() if isinstance(sys.stderr, io.StringIO) else ""
            joined.end(f"rank {launch.rank}: {errors.strip().rpartition(chr(10))[2].removeprefix('likely: ')}")
        time.sleep(LAST_WORD_S)  # rank 0's end comes before
    _flush()
    os._exit(code)  # what mlx may still wait for, nobody will send


def _quiet(rank: int) -> TextIO:
    """Where this process speaks from now on; the ten lines that mlx's ring writes about a lost peer go nowhere."""
    out = os.fdopen(os.dup(2), "w", buffering=1)
    if "MLX_RING_VERBOSE" not in os.environ:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    sys.stderr = io.StringIO() if rank else out
    if rank:
        sys.stdout = open(os.devnull, "w")  # noqa: SIM115
        for number in (signal.SIGINT, signal.SIGHUP):  # what a terminal sends to all: rank 0 stops the run for them
            signal.signal(number, signal.SIG_IGN)
    return out


def _outlive_the_launcher() -> None:
    """A launcher ends all ranks as soon as one has failed: stay for the moment that it takes to say why."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # before there are threads, which inherit it

    def wait() -> None:
        signal.sigwait({signal.SIGTERM})
        time.sleep(LAST_WORD_S / 2)
        os._exit(128 + signal.SIGTERM)

    threading.Thread(target=wait, name="terminated", daemon=True).start()


def _guarded(verb: Callable[[], int]) -> int:
    try:
        return verb()
    except RuntimeError as error:
        if str(error).startswith("["):  # a collective failed as a rank is gone: the watch will say which
            time.sleep(LAST_WORD_S)
        traceback.print_exc()
    except Exception:
        traceback.print_exc()
    return 1


def _ended(end: End, rank: int, out: TextIO) -> None:
    """The run has ended elsewhere: say why, where this rank is the one to speak, and end."""
    if rank == 0 and not end.lost:
        time.sleep(OWN_WORD_S)
    if end.line and rank == (1 if end.lost and end.rank == 0 else 0):
        out.write(f"likely: {sanitize_line(end.line)}\n")
    os._exit(1)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            continue
