"""`likely run -n N`: several answers to one prompt, drawn side by side."""

import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

import click

from app import plain
from app.cli.run import trace
from engine.decode.control import RunControl
from engine.decode.events import Done, Emitted
from engine.trace import file
from engine.trace.fields import step_object
from engine.trace.trace import TokenStep

if TYPE_CHECKING:
    from app.cli.sampling import Limits
    from engine.session import Session


def show_answers(
    session: "Session",
    ids: list[int],
    control: RunControl,
    count: int,
    limits: "Limits",
    *,
    as_json: bool,
    special: bool,
    quiet: bool,
    save: Path | None,
) -> None:
    """Write each answer when all of it is there, under its number; with `as_json` one object a token as it comes.

    All of them are saved in one file.
    """
    seed = limits.seed
    steps: list[list[TokenStep]] = [[] for _ in range(count)]
    ends: list[Done] = []
    events = session.answers(ids, control, count, seed=seed, max_tokens=limits.max_tokens, stop=limits.stop)
    with plain.interruptible(control):
        for event in events:
            if isinstance(event, Emitted):
                steps[event.branch].append(event.step)
                if as_json:
                    click.echo(json.dumps({"answer": event.branch + 1, **step_object(event.step)}, ensure_ascii=False))
            elif isinstance(event, Done):
                ends.append(event)
                drawn_with = {"answer": event.branch + 1, "seed": seed + event.branch}
                if as_json:
                    click.echo(json.dumps({**drawn_with, "finish": event.reason, **asdict(event.stats)}))
                else:
                    text = "".join(plain.shown(step, special) for step in steps[event.branch]) + event.text
                    click.echo(f"[{event.branch + 1}]\n{text}")
                if not quiet:
                    line = plain.summary(steps[event.branch], event)
                    click.echo(f"[{event.branch + 1}] {line} · seed {seed + event.branch}", err=True)
    if save is not None:
        runs = sorted(ends, key=lambda end: end.branch)
        file.save([trace(session, ids, steps[e.branch], seed + e.branch, e.reason) for e in runs], save)
    if any(end.reason == "cancelled" for end in ends):
        sys.exit(130)
