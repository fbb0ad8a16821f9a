"""Rules of options from both sides: what is refused and the nearest call that is not; options of drawing."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import click
import pytest

from app.cli import factorisation, replaying, rules, synth
from app.cli import likely as program
from app.cli.sampling import Limits, read_recipe
from app.cli.searching import read_constraint, searches
from app.cli.speed import cache_options, read_strategy
from engine.diffusion.record import DenoisingRecord
from engine.diffusion.unmasking import Unmasking
from engine.errors import ParameterError
from engine.evaluate.estimates import Estimate
from engine.synth.collapse import Generation
from engine.trace import file
from engine.trace.trace import Recipe
from tests.app.test_explain_text import MASK, PASSES, RUN

Captured = pytest.CaptureFixture[str]
CALLS = {  # a verb: calls that are fine, and calls with the option that is refused
    "explain": (
        [
            "t --formula",
            "t --formula --json -c x --top 3",
            "t -A a --samples 3",
            "t --json --attention",
            "t --activation-bits 8",
        ],
        [
            ("t --formula -c x", "--candidate"),
            ("t --formula --top 3", "--top"),
            ("t --samples 3", "--samples"),
            ("t --attention", "--attention"),
            ("t --activation-bits 8 -A a", "--adapter"),
            ("t --json --attention --activation-bits 8", "--attention"),
        ],
    ),
    "run": (
        [
            "p --xtc-probability 0.5 --xtc-threshold 0.2",
            "p --temp 0.5 --dynatemp-range 0.2",
            "--replay f --temp 0 --json",
            "p --steps 3",
        ],
        [
            ("p --xtc-threshold 0.2", "--xtc-threshold"),
            ("p --xtc-probability 0 --xtc-threshold 0.2", "--xtc-threshold"),
            ("p --temp 0 --dynatemp-range 0.2", "--dynatemp-range"),
            ("--replay f --seed 3", "--seed"),
            ("--replay f -M m", "--model"),
            ("p --steps 3 --beam 2", "--beam"),
            ("p --steps 3 --answers 2", "--answers"),
            ("p --activation-bits 8 --kv-bits 8", "--kv-bits"),
        ],
    ),
    "fill": (
        ["t --nbest 2 --whole", "t --steps 3 --save s"],
        [("t --nbest 2 --steps 3", "--steps"), ("t --mcmc 2 --save s", "--save")],
    ),
    "chat": (
        ["--plain --stop x", "--server u --server-key k", "--resume i", ""],
        [
            ("--stop x", "--stop"),
            ("--plain --resume i", "--resume"),
            ("--plain --server u", "--server"),
            ("--server-key k", "--server-key"),
            ("--server u --system s", "--system"),
        ],
    ),
    "fuse": (
        ["a -o o --bits 4 --group-size 32", "a --peft p -M m", "a -o o --rows 2"],
        [
            ("a -o o --group-size 32", "--group-size"),
            ("a -o o --bits 16 --group-size 32", "--group-size"),
            ("a --peft p --rows 2", "--rows"),
            ("a --lora l --json", "--json"),
            ("a -o o --bits 32 --group-size 64", "--group-size"),
        ],
    ),
    "quantize": (
        ["m --bits 3 --awq", "m --gguf f16 --text t"],
        [("m --gguf f16 --bits 3", "--bits"), ("m --gguf f16 --awq", "--awq")],
    ),
    "reason": (
        [
            "q --method steps --beams 3",
            "q --method power --alpha 2",
            "q --method entropy --bits 2",
            "q --method best --scorer p-true",
            "q --method best --verifier v --timeout 3",
            "q --confidence 0.5",
            "--file f --limit 3 --analyse --verifier v --scorer s",
            "q --raw",
            "q --template plain",
            "q --method steps --verifier v",
            "--file f --hopeless 0.5",
        ],
        [
            ("q --beams 3", "--beams"),
            ("q --alpha 2", "--alpha"),
            ("q --bits 2", "--bits"),
            ("q --scorer p-true", "--scorer"),
            ("q --timeout 3", "--timeout"),
            ("q --verifier v", "--verifier"),
            ("q --limit 3", "--limit"),
            ("q --analyse", "--analyse"),
            ("q --method best --verifier v --scorer s", "--scorer"),
            ("q --method reflect --scorer s", "--scorer"),
            ("q --method best --confidence 0.5", "--confidence"),
            ("q -n 1 --hopeless 0.5", "--hopeless"),
            ("--file f --confidence 0.5", "--confidence"),
            ("q --raw --template plain", "--template"),
        ],
    ),
    "models": (["--known --json", "--default d"], [("--known --default d", "--default"), ("--known --add .", "--add")]),
    "tune": (
        ["d --screen --resume", "d --search S --dry-run"],
        [
            ("d --screen --json", "--json"),
            ("d --screen --dry-run", "--dry-run"),
            ("d --search S --resume", "--resume"),
            ("d --search S --screen", "--screen"),
        ],
    ),
    "pretrain": (["d --screen"], [("d --screen --json", "--json"), ("d --screen --dry-run", "--dry-run")]),
    "eval": (
        [
            "t --json --items",
            "t --vary typos --variants 2",
            "t --text f --shots 1",
            "--compare t --by c --positions --report r",
        ],
        [
            ("t --items", "--items"),
            ("t --variants 2", "--variants"),
            ("t --paraphraser p", "--paraphraser"),
            ("--text f --judge j", "--judge"),
            ("--text f --vary typos", "--vary"),
            ("--generated f --reference f --seed 1", "--seed"),
            ("--compare --limit 3", "--limit"),
        ],
    ),
    "inside": (
        [
            "t --attribution --against 3",
            "t --patch p --against 3 --part mlp",
            "--neighbours 0 --centred --output",
            "--sum s --output",
            "--relations --output",
            "t --attention 0.0 --without-first",
            "t --rollout --without-first",
            "t --save s --keep k",
            "t --lens --tuned",
            "t --toward a --away b --layer 0 --direction d",
        ],
        [
            ("t --against 3", "--against"),
            ("t --centred", "--centred"),
            ("--sum s --centred", "--centred"),
            ("t --output", "--output"),
            ("t --heads --without-first", "--without-first"),
            ("t --keep k", "--keep"),
            ("t --tuned", "--tuned"),
            ("t --away b", "--away"),
            ("t --layer 0", "--layer"),
            ("t --direction d", "--direction"),
            ("t --part mlp", "--part"),
        ],
    ),
    "synth": (
        ["S --report --effect", "S --generations 1"],
        [("S --generations 1 --report", "--report"), ("S --generations 1 --effect", "--effect")],
    ),
    "bench": (
        ["--rounds 3 -M m", "kernels --case c --json"],
        [
            ("kernels --rounds 3", "--rounds"),
            ("kernels -M m", "--model"),
            ("--case c", "--case"),
            ("model --case c", "--case"),
        ],
    ),
}


def check(verb: str, call: str) -> None:
    command = program.get_command(click.Context(program), verb)  # type: ignore[attr-defined]
    assert command is not None
    rules.check(command.make_context(verb, call.split()))


def test_an_option_that_would_be_ignored_is_refused_and_no_other(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("f", "S"):
        (tmp_path / name).write_text("")
    monkeypatch.delenv("LIKELY_MODEL", raising=False)
    for verb, (fine, wrong) in CALLS.items():
        for call in fine:
            check(verb, call)
        for call, option in wrong:
            with pytest.raises(click.UsageError) as refused:
                check(verb, call)
            assert refused.value.message.startswith(f"{option} "), (verb, call, refused.value.message)
    monkeypatch.setenv("LIKELY_MODEL", "m")
    check("bench", "kernels")  # a model of the environment is none that was given


def test_options_of_one_way_to_draw_are_refused_by_the_other() -> None:
    def session(diffusion: Any, joined: Any = None) -> Any:
        config = SimpleNamespace(diffusion=diffusion)
        return SimpleNamespace(info=SimpleNamespace(name="m"), model=SimpleNamespace(config=config), ranks=joined)

    masked, plain = session(object()), session(None)
    assert factorisation.is_diffusion(masked, {"steps", "temp"}) and not factorisation.is_diffusion(
        plain, {"beam", "temp"}
    )
    assert not factorisation.is_diffusion(session(None, object()), set())
    for some, option, line in (
        (
            masked,
            "length_penalty",
            "--length-penalty is of drawing from left to right, and m is a diffusion model: leave it out",
        ),
        (plain, "steps", "--steps is of diffusion models, and m is autoregressive: leave it out"),
    ):
        with pytest.raises(ParameterError) as refused:
            factorisation.is_diffusion(some, {option})
        assert str(refused.value) == line
    with pytest.raises(ParameterError, match="m is a diffusion model, which one process runs"):
        factorisation.is_diffusion(session(object(), object()), set())
    values = dict.fromkeys(factorisation.UNMASKING)
    assert factorisation.unmasking(values) == Unmasking() and factorisation.unmasking(
        values | {"steps": 3}
    ) == Unmasking(steps=3)


def test_a_recipe_stands_over_its_preset() -> None:
    from engine.presets import ORDERS, PARAMETERS, PRESETS, recipe

    values = {
        **dict.fromkeys(PARAMETERS),
        "preset": None,
        "order": "mlx-lm",
        "bias": (),
        "seed": 0,
        "max_tokens": None,
        "stop": ("a",),
    }
    found, limits = read_recipe(values)
    assert found == recipe(PRESETS["balanced"], ORDERS["mlx-lm"], bias={}) and limits == Limits(0, 2048, ("a",))
    assert (
        read_recipe(values, searches=True)[0]
        == recipe({}, ORDERS["mlx-lm"], bias={})
        == read_recipe(values | {"temp": 1.0})[0]
    )
    both = read_recipe(values | {"preset": "precise", "top_k": 7, "max_tokens": 3})
    assert both[0] == recipe({**PRESETS["precise"], "top_k": 7}, ORDERS["mlx-lm"], bias={}) and both[1].max_tokens == 3
    greedy = next(name for name, settings in PRESETS.items() if settings.get("temp") == 0)
    for more, option in (({"temp": 0.0}, "--temp 0"), ({"preset": greedy}, f"--preset {greedy}")):
        with pytest.raises(ParameterError, match=f"drop {option}$"):
            read_recipe(values | more, searches=True)
    assert 0 <= read_recipe(values | {"seed": None})[1].seed < 1 << 32


def test_constraints_and_caches_are_read_from_their_options(tmp_path: Path) -> None:
    nothing: dict[str, Any] = {"regex": None, "json_schema": None, "choice": ()}
    assert read_constraint(nothing, 3) is None
    for kind in ("true", " {}"):
        found = read_constraint(nothing | {"json_schema": kind}, 3)
        assert found is not None and (found.kind, found.grammar, found.start) == ("json", kind, 3)
    (tmp_path / "s").write_text("true")
    assert read_constraint(nothing | {"json_schema": str(tmp_path / "s")}, 0).grammar == "true"  # type: ignore[union-attr]
    assert cache_options("8", 1.5, True) == {"keep_prefix": True, "bits": 8, "kv_budget": 1_500_000}
    assert cache_options(None, None, False) == {"keep_prefix": False}
    assert searches("beam 2") and not searches(None) and not searches("sample")
    assert (
        read_strategy(None, None, False, None, 3).SEARCHES is False
        and read_strategy("beam 4", None, False, None, 2).width(1) == 4
    )
    with pytest.raises(click.UsageError, match=r"\(--answers\)"):
        read_strategy("beam 2", None, False, None, 3)


def test_a_saved_run_by_passes_is_replayed_by_passes(
    monkeypatch: pytest.MonkeyPatch, capsys: Captured, tmp_path: Path
) -> None:
    record = DenoisingRecord(MASK, 1, Unmasking(), PASSES)
    run = replace(RUN, prompt=(0, MASK, MASK), denoising=record, steps=record.steps)
    monkeypatch.setattr(file, "load", lambda path: [run])
    replaying.show_replay(tmp_path, Recipe(), as_json=False)
    alone = capsys.readouterr().out
    assert alone.startswith("tiny · seed 3 · 3 tokens in 2 passes")
    monkeypatch.setattr(file, "load", lambda path: [run, run])
    replaying.show_replay(tmp_path, Recipe(), as_json=False)
    first, second = capsys.readouterr().out.split("[2] ")
    assert first == f"[1] {alone}" and second == alone
    replaying.show_replay(tmp_path, Recipe(), as_json=True)
    assert [json.loads(line)["answer"] for line in capsys.readouterr().out.splitlines()] == [1] * 5 + [2] * 5


def test_generations_are_drawn_in_every_way(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    from engine.synth import collapse, inputs

    asked: list[Any] = []

    def generations(real: Any, learner: Any, count: int, way: str, kind: Any, *, n: int, seed: int) -> Any:
        asked.append((real, type(learner).__name__, count, way, n, seed))
        yield Generation(0, way, 9, 3, Estimate(0.5, 0.1, bounds=(0.4, 0.6)), 0.5)

    monkeypatch.setattr(collapse, "generations", generations)
    monkeypatch.setattr(inputs, "training_rows", lambda name: [name])
    config: Any = SimpleNamespace(
        real="r", seed=3, collapse=SimpleNamespace(kind=next(iter(inputs.KIND_OF)), learner="counts", rows=9)
    )
    synth._generations(config, 2, False)
    assert asked == [(["r"], "Frequencies", 2, way, 9, 3) for way in collapse.WAYS]
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == [
        way.split()[0] for way in collapse.WAYS
    ]
    synth._generations(config, 2, True)
    assert [json.loads(line)["way"] for line in capsys.readouterr().out.splitlines()] == list(collapse.WAYS)
    config.real = ""
    with pytest.raises(click.UsageError, match="--generations begins with real rows"):
        synth._generations(config, 2, False)
    config.generate = SimpleNamespace(adapters=("a",))
    with pytest.raises(click.UsageError, match="trains an adapter of its own"):
        synth._learning(config)
