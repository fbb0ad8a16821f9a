"""Commands of trainings: that begin one, that go on with it, that train anew beside it. No mlx."""

import shlex
from collections.abc import Sequence
from dataclasses import fields
from itertools import chain, pairwise

from likely.app.results.training_kind import TrainingConfig, kind_of
from likely.engine.weights.adapters.config import Config


def command(config: TrainingConfig) -> str:
    """The command that begins a run of these options."""
    words = ["likely", kind_of(config).verb, config.data]
    for f in fields(config):
        value = getattr(config, f.name)
        if f.name == "data" or value == f.default:
            continue
        flag = f.name.replace("_", "-")
        if isinstance(value, bool):
            words.append(f"--{flag}" if value else f"--no-{flag}")
        else:
            many: Sequence[object] = value if isinstance(value, tuple) else (value,)
            words += [word for item in many for word in (f"--{flag}", written(item))]
    return shlex.join(words)


def written(value: object) -> str:
    """An option's value as a command has it."""
    return f"{value:g}" if isinstance(value, float) else str(value)


def going_on(verb: str, out: str) -> str:
    """The command that goes on with the run in a folder, which has its options."""
    return shlex.join(("likely", verb, "--out", out, "--resume"))


def resumed(words: Sequence[str]) -> str:
    """The command that goes on with a command's run, whose options it knows; of `likely tune` where none was typed."""
    return going_on(next(iter(words), "tune"), out_of(words))


def beside(words: Sequence[str], **others: float | str) -> str:
    """The command that trains anew with `others` in the place of its options, into a folder beside its own."""
    others |= {"out": f"{out_of(words)}-2"}
    given = {f"--{name}" for name in others}
    kept = [
        word
        for before, word in zip(("", *words), words, strict=False)
        if before not in given and word.partition("=")[0] not in {*given, "--resume"}
    ]
    flags = [(f"--{name}", written(value)) for name, value in others.items()]
    return shlex.join(("likely", *kept, *chain.from_iterable(flags)))


def out_of(words: Sequence[str]) -> str:
    """The --out among a command's words, or its default."""
    out = Config().out
    for word, following in pairwise((*words, "")):
        if word == "--out":
            out = following
        elif word.startswith("--out="):
            out = word.removeprefix("--out=")
    return out
