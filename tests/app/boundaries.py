"""Where each verb hands what was asked to the engine: stand-ins that write down what arrives, and run nothing.

What arrives there, and what is printed beside it, is a verb's plan. Only `inside` and `explain` run, on a tiny model.
`scale` is not here: what it was asked shows only in what it finds.
"""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import click
import pytest
from click.testing import CliRunner

from app.cli import likely as program
from app.cli.factorisation import UNMASKING
from engine.decode.control import RunControl
from engine.errors import LikelyError
from engine.session import Session
from engine.sources.checkpoint import load
from engine.tune.control import Ended
from metal import mx
from tests.engine import tiny
from tests.fakes import ByteTokenizer, FakeCheckpoint, MarkovModel, certain_table

Plan = str


def session(*_: Any, **__: Any) -> Session:
    """One on a model that answers "xyz"."""
    return Session(FakeCheckpoint(MarkovModel(certain_table(b":xyz"))))  # type: ignore[arg-type]


class Refused(str):
    """What a person is told of a call that is refused."""


def _shown(value: Any) -> str:
    if isinstance(value, RunControl):
        return repr((value.recipe, list(value.forced)))
    if isinstance(value, Mapping):
        return repr({name: _shown(item) for name, item in value.items()})
    if isinstance(value, list | tuple):
        return repr([_shown(item) for item in value])
    if isinstance(value, Session):
        return f"session that ends at {sorted(value.tokenizer.eos)}"
    if callable(value) or isinstance(value, SimpleNamespace | ByteTokenizer):
        return type(value).__name__
    return repr(value)


class Boundaries:
    """The ends of one verb's own work, replaced by notes."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.patch = monkeypatch
        self.noted: list[str] = []
        monkeypatch.setattr("app.cli.sampling._fresh_seed", lambda: 0)

    def note(self, target: str, gives: Any = None) -> None:
        """Calls of the function `target` are noted, and give `gives`, or what it makes of the arguments."""

        def noted(*args: Any, **given: Any) -> Any:
            self.noted.append(f"{target} {_shown(args)} {_shown(given)}")
            return gives(*args, **given) if callable(gives) else gives

        self.patch.setattr(target, noted)

    def call(self, verb: str, args: list[str]) -> Plan | Refused:
        """What `likely VERB ARGS` hands over and prints, or why it is refused; any other end is a fault."""
        self.noted.clear()
        result = CliRunner().invoke(program, [verb, *args], input="standard input")
        if result.exit_code == 2 or isinstance(result.exception, LikelyError):
            return Refused(result.output + str(result.exception))
        assert result.exit_code == 0, (verb, args, result.output, result.exception)
        written = [(path.name, hash(path.read_bytes())) for path in sorted(Path.cwd().glob("*.safetensors"))]
        return "\n".join([*self.noted, result.output, repr(written)])


def _run(b: Boundaries) -> None:
    b.note("app.cli.run.open_session", session)
    b.note("app.cli.run.bound", lambda strategy, session: strategy)
    b.patch.setattr("app.cli.run.is_diffusion", lambda session, given: not {*UNMASKING}.isdisjoint(given))
    for target in (
        "answers.show_answers",
        "hypotheses.show_hypotheses",
        "replaying.show_replay",
        "diffused.show_diffused",
    ):
        b.note(f"app.cli.{target}")


def _fill(b: Boundaries) -> None:
    b.note("app.cli.fill.open_session", session)
    b.note("app.cli.fill.show")
    b.note("app.cli.infilled.show_infilled")
    b.note("app.cli.replaying.show_replay")


def _chat(b: Boundaries) -> None:
    b.note("app.cli.chat.open_session", session)
    b.note("app.plain.converse")
    b.note("app.tui.run", 0)
    b.note("app.tui.watch", 0)
    b.note("engine.sources.preferences.choose")
    b.patch.setattr("app.cli.chat.on_terminal", lambda: True)


def _reason(b: Boundaries) -> None:
    from engine.reason.paths import by_vote

    b.note("app.cli.reason.open_session", session)
    b.note("app.cli.reason.Reasoning.draw", lambda *_, **__: iter(()))
    b.note("app.cli.reason.Reasoning.choose", lambda *_, **__: by_vote([], seed=0))
    b.note("app.cli.problems.show_problems")


def _eval(b: Boundaries) -> None:
    def runs(self: Any, sources: Any, models: Any) -> Any:
        for model in models:
            self.open(model)
        return (event for event in ())

    def measured(generated: Any, reference: Any, training: Any, model: Any, opens: Any) -> list[Any]:
        if model:
            opens(model)
        return []

    b.note("app.cli.eval.open_session", session)
    b.note("app.evaluator.weights", "weights")
    b.note("app.evaluator.files", "files")
    b.note("app.evaluator.Evaluator.run", runs)
    b.note("app.cli.eval._stored", [])
    for more in ("contaminated", "by_column", "by_position"):
        b.note(f"app.cli.eval_further.{more}", [])
    b.note("app.cli.eval_variations.plan", [])
    b.note("app.cli.eval_judged.pairs", [])
    b.note("app.cli.eval.say")
    b.note("app.cli.eval.show")
    b.note("app.cli.eval_samples.measured", measured)
    b.note("app.report.write")


def _synth(b: Boundaries) -> None:
    b.note("app.cli.synth.read", MagicMock())  # a file in which everything is named
    for done in ("_make", "_report", "_effect", "_generations"):
        b.note(f"app.cli.synth.{done}")


def _serve(b: Boundaries) -> None:
    b.note("app.cli.serve.default_model", "model")
    b.note("app.serve.server.serve")


def _watch(b: Boundaries) -> None:
    b.note("app.tui.tune", 0)
    b.patch.setattr("app.cli.training.on_terminal", lambda: True)


def _tune(b: Boundaries) -> None:
    counters = SimpleNamespace(step=1)
    run = SimpleNamespace(leads=True, rows=SimpleNamespace(train=[]), config=None, counters=counters, folder="")
    _watch(b)
    b.note("engine.tune.open_run.open_run", SimpleNamespace(run=run))
    b.note("engine.tune.report.report")
    b.note("engine.tune.report.refuse_if_too_large")
    b.note("app.cli.tune.describe", ["as text"])
    b.note("app.cli.tune._object", {"as": "json"})
    b.note("app.cli.tune._run", Ended("done", 1))
    b.note("app.cli.tune_search.chosen", lambda settings, *_, **__: (settings, False, {}))


def _pretrain(b: Boundaries) -> None:
    opened = SimpleNamespace(run=SimpleNamespace(leads=True, config=None), found=None)
    _watch(b)
    b.note("engine.pretrain.pretraining.open_run", opened)
    b.note("app.cli.pretrain.describe_pretraining", ["as text"])
    b.note("app.cli.pretrain._object", {"as": "json"})
    b.note("app.cli.pretrain._run")


def _fuse(b: Boundaries) -> None:
    from engine.tune.lora import Adapter

    adapter = Adapter()
    stored = SimpleNamespace(model="base", data="rows", dropout=0.0)
    checkpoint = SimpleNamespace(model=None, tokenizer=None, info=SimpleNamespace(path=Path()))
    b.note("engine.tune.adapters.read", stored)
    b.note("engine.tune.adapters.place", adapter)
    b.note("engine.tune.data.read", SimpleNamespace(test=[1, 2, 3], valid=[], train=[]))
    b.note("engine.tune.fusion.open_base", checkpoint)
    b.note("engine.tune.fusion.texts", [])
    b.note("engine.tune.fusion.fuse_to", SimpleNamespace(adapter=1.0, fused=1.0, error=0.0, lost=False))
    b.note("engine.tune.gguf_adapter.write")
    b.note("engine.tune.sites.trainable")
    b.note("engine.tune.peft.base_name", ("base", ""))
    b.note("engine.tune.peft.write")


def _quantize(b: Boundaries) -> None:
    b.note("engine.sources.store.resolve", lambda name: SimpleNamespace(name=name))
    b.note("engine.quantize.quantize")
    b.note("engine.quantize.write_one_file")
    b.note("app.cli.quantize.lines", [])


def _bench(b: Boundaries) -> None:
    config = SimpleNamespace(context=4096)
    b.note(
        "engine.sources.checkpoint.load",
        SimpleNamespace(model=SimpleNamespace(config=config), info=None, precision=SimpleNamespace(dtype="", packed=0)),
    )
    b.note("app.cli.bench.default_model", "default")
    b.note("app.cli.kernel_table.show_kernels")
    b.note("engine.session.Session", "session")
    b.patch.setattr("engine.bench.timed", lambda work: (work(), 0.0))
    b.note("engine.mlx_lm_baseline.MlxLm", "mlx-lm")
    b.note("engine.bench.run", SimpleNamespace(as_dict=lambda: {"as": "json"}))
    b.note("app.cli.bench.table", ["as text"])
    b.note("app.cli.bench.block", [])
    b.note("app.cli.doctor.kernels", "")


def _diff(b: Boundaries) -> None:
    b.note("engine.evaluate.compare.check_vocabularies")
    b.note("engine.tune.tuned.open_model", SimpleNamespace(model=None, tokenizer=session().tokenizer))
    b.note("engine.evaluate.compare.logits")
    b.note("engine.evaluate.compare.compare")
    b.note("app.cli.diff._object", {"as": "json"})
    b.note("app.cli.diff._show")


def _models(b: Boundaries) -> None:
    info = SimpleNamespace(name="n", nbytes=1, family="f", quantization="q", path="p", as_dict=lambda: {"name": "n"})
    b.note("engine.sources.store.list", (info,))
    b.note("engine.sources.store.default", None)
    b.note("engine.sources.store.resolve", lambda name: SimpleNamespace(name=name))
    b.note("engine.sources.preferences.choose")
    b.note("engine.sources.preferences.add_folder")


def _rm(b: Boundaries) -> None:
    b.note("engine.sources.store.removable", SimpleNamespace(name="n", nbytes=1))
    b.note("engine.sources.store.is_ours", True)
    b.note("engine.sources.store.remove")
    b.note("click.confirm")


def _doctor(b: Boundaries) -> None:
    b.note("metal.tuning_cache.forget")
    b.patch.setattr("engine.machine.gflops", lambda: 1.0)
    b.patch.setattr("engine.machine.bandwidth", lambda: 1.0)
    b.patch.setattr("app.cli.doctor.native", lambda: ("", ""))


@cache
def _tiny() -> Session:
    """A random model of two layers: what was asked of these verbs shows only in what they find."""
    arrays = {name: mx.array(array) for name, array in tiny.weights(tiny.LLAMA).items()}
    with TemporaryDirectory() as at:
        return Session(load(tiny.write_folder(Path(at) / "tiny", tiny.LLAMA, arrays)))


def _explain(b: Boundaries) -> None:
    b.note("app.cli.explain.open_session", lambda *_, **__: _tiny())
    b.note("app.cli.explain.uncertainties")  # of a posterior that no folder here has


def _inside(b: Boundaries) -> None:
    b.note("app.cli.inside.open_session", lambda *_, **__: _tiny())


VERBS: dict[str, Callable[[Boundaries], None]] = {
    "run": _run,
    "fill": _fill,
    "chat": _chat,
    "reason": _reason,
    "explain": _explain,
    "eval": _eval,
    "inside": _inside,
    "synth": _synth,
    "serve": _serve,
    "pretrain": _pretrain,
    "tune": _tune,
    "fuse": _fuse,
    "quantize": _quantize,
    "bench": _bench,
    "diff": _diff,
    "models": _models,
    "rm": _rm,
    "doctor": _doctor,
}
BARE = ("pull", "completion")  # no option
FOUND = ("scale", "posterior", "estimate")  # what was asked shows in what is found


def flags(verb: str) -> dict[str, click.Option]:
    """The options of a verb by parameter name, without those that are kept for old calls."""
    command = program.get_command(click.Context(program), verb)  # type: ignore[attr-defined]
    return {str(p.name): p for p in command.params if isinstance(p, click.Option) and not p.hidden}
