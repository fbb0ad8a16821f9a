"""Rules between options: what would be ignored is refused by its name, before a model is looked for, and no more."""

import shlex
from pathlib import Path
from typing import Any

import click
import pytest

from likely.app.cli import VERBS, rules
from likely.app.cli import likely as program
from likely.engine.adapters.config import NEEDS, configure
from likely.engine.errors import ParameterError
from tests.cli.conftest import Likely

WRONG = """
explain t --formula -c x | --candidate
explain t --formula --top 3 | --top
explain t --samples 3 | --samples
explain t --attention | --attention
explain t --activation-bits 8 -A a | --adapter
explain t --json --attention --activation-bits 8 | --attention
run p --xtc-threshold 0.2 | --xtc-threshold
run p --xtc-probability 0 --xtc-threshold 0.2 | --xtc-threshold
run p --temp 0 --dynatemp-range 0.2 | --dynatemp-range
run --replay f --seed 3 | --seed
run --replay f -M m | --model
run p --steps 3 --beam 2 | --beam
run p --steps 3 --answers 2 | --answers
run p --activation-bits 8 --kv-bits 8 | --kv-bits
fill t --nbest 2 --steps 3 | --steps
fill t --mcmc 2 --save s | --save
chat --stop x | --stop
chat --plain --resume i | --resume
chat --plain --server u | --server
chat --server-key k | --server-key
chat --server u --system s | --system
fuse a -o o --group-size 32 | --group-size
fuse a -o o --bits 16 --group-size 32 | --group-size
fuse a --peft p --rows 2 | --rows
fuse a --lora l --json | --json
fuse a -o o --bits 32 --group-size 64 | --group-size
quantize m --gguf f16 --bits 3 | --bits
quantize m --gguf f16 --awq | --awq
reason q --beams 3 | --beams
reason q --alpha 2 | --alpha
reason q --bits 2 | --bits
reason q --scorer p-true | --scorer
reason q --timeout 3 | --timeout
reason q --verifier v | --verifier
reason q --limit 3 | --limit
reason q --analyse | --analyse
reason q --method best --verifier v --scorer s | --scorer
reason q --method reflect --scorer s | --scorer
reason q --method best --confidence 0.5 | --confidence
reason q -n 1 --hopeless 0.5 | --hopeless
reason --file f --confidence 0.5 | --confidence
reason q --raw --template plain | --template
models --known --default d | --default
models --known --add . | --add
tune d --screen --json | --json
tune d --screen --dry-run | --dry-run
tune d --search S --resume | --resume
tune d --search S --screen | --screen
pretrain d --screen --json | --json
pretrain d --screen --dry-run | --dry-run
eval t --items | --items
eval t --variants 2 | --variants
eval t --paraphraser p | --paraphraser
eval --text f --judge j | --judge
eval --text f --vary typos | --vary
eval --generated f --reference f --seed 1 | --seed
eval --compare --limit 3 | --limit
inside t --against 3 | --against
inside t --centred | --centred
inside --sum s --centred | --centred
inside t --output | --output
inside t --heads --without-first | --without-first
inside t --keep k | --keep
inside t --tuned | --tuned
inside t --away b | --away
inside t --layer 0 | --layer
inside t --direction d | --direction
inside t --part mlp | --part
synth S --generations 1 --report | --report
synth S --generations 1 --effect | --effect
bench kernels --rounds 3 | --rounds
bench kernels -M m | --model
bench --case c | --case
bench model --case c | --case
chat --plain --resume x | --resume
run --replay x --special | --special
run --replay x --seed 1 | --seed
run --replay x --raw | --raw
tune rows --kind full --rank 4 | rank
tune rows --beta 0.2 | beta
tune rows --epochs 1 --steps 2 | epochs
fuse adapter --peft x --bits 4 | --bits
fuse adapter --out x --group-size 32 | --group-size
bench --case x | --case
bench kernels -M x | --model
run x --xtc-threshold 0.2 | --xtc-threshold
run x --preset greedy --dynatemp-range 1 | --dynatemp-range
reason x --limit 2 | --limit
explain x --formula --top 2 | --top
models --known --default x | --default
eval --text x --shots 4 | --shots
run p --resample --regex a --choice b | --choice
run p --resample | --resample
run p --resample --regex a --temp 0.5 -n 2 | --temp
run p --activation-bits 8 --parallel tensor | --parallel
run p --activation-bits 8 -A a | --adapter
run p --dry-base 2 | --dry-base
run p --mirostat-eta 0.2 | --mirostat-eta
run p --repetition-context-size 3 | --repetition-context-size
fill t --replay f --seed 1 | --seed
fill t --mcmc 2 --noise cosine | --noise
fuse a --peft p --data d | --data
fuse a --peft p --force | --force
fuse a --lora l --gguf f16 | --gguf
quantize m --gguf f16 --recipe mixed_3_6 | --recipe
quantize m --gguf f16 --group 32 | --group
reason q --step-end x | --step-end
eval --text f --cluster c | --cluster
eval --text f --calibrate-on f | --calibrate-on
eval --generated f --reference f --by c | --by
eval --compare --fresh | --fresh
bench kernels --against mlx-lm | --against
bench kernels --answers 2 | --answers
bench kernels --tokens 2 | --tokens
run p --activation-bits 8 --strategy "dola 2" | --activation-bits
posterior laplace a --draws 0 | --draws
posterior laplace a --draws 101 | --draws
posterior laplace a --prior-precision 0 | --prior-precision
posterior laplace a --seed -1 | --seed
posterior swag a --steps 1 | --steps
posterior swag a --rate 0 | --rate
posterior ensemble a | OTHERS
estimate curve f --seeds 0 | --seeds
estimate curve f --seeds 101 | --seeds
estimate curve f --next 0 | --next
estimate curve f --sizes 1,x | whole numbers with commas between them such as 20,40,80, got '1,x'
estimate bound . --trained f --delta 1 | --delta
estimate bound . --trained f --draws 0 | --draws
scale fit f --refits 99 | --refits
scale fit f --budget 0 | takes floating-point operations above 0 such as 1e18, got
scale show f --svg s --rate 0 | --rate
scale show f --seed 1 | --seed is of a file: add --svg, --png or --html
scale run f --within 0 | --within
scale toy quanta --seeds 1 | --seeds
scale toy quanta --alpha 1.6 | --alpha
inside t --attention 3 | a head is named LAYER.HEAD, as in 3.0
inside t --attention 1.2.3 | a head is named LAYER.HEAD, as in 3.0
fuse a --rows 0 | --rows
fuse a -o o.gguf --bits 4 | --bits
fuse a -o o --gguf f16 | --gguf
bench --contexts 0 | --contexts
bench --rounds 1 | --rounds
bench -n 257 | --answers
bench --tokens 1 | --tokens
diff a b T --top 51 | --top
fill a --nbest 0 | --nbest
fill a --nbest 1 --mcmc 1 | --mcmc
reason Q --confidence 1.5 | confidence
reason Q --hopeless -1 | hopeless
reason Q --file f | QUESTION
eval arithmetic --limit 0 | --limit
eval --text f --paths 1 | --paths
eval t.jsonl --stride 4 | --stride is of texts
eval t.jsonl --window 512 | --window is of texts
eval t.jsonl --positions | --positions is of texts
eval t.jsonl --temp 1 | --temp is of tasks whose answers are drawn
eval t.jsonl --difference 0.1 | --difference is between two models
eval --text f --by source | --by is of TASKS
"""  # a call | the option that it is refused for, and maybe more
FINE = """
explain t --formula
explain t --formula --json -c x --top 3
explain t -A a --samples 3
explain t --json --attention
explain t --activation-bits 8
run p --xtc-probability 0.5 --xtc-threshold 0.2
run p --temp 0.5 --dynatemp-range 0.2
run --replay f --temp 0 --json
run p --steps 3
fill t --nbest 2 --whole
fill t --steps 3 --save s
chat --plain --stop x
chat --server u --server-key k
chat --resume i
chat
fuse a -o o --bits 4 --group-size 32
fuse a --peft p -M m
fuse a -o o --rows 2
quantize m --bits 3 --awq
quantize m --gguf f16 --text t
reason q --method steps --beams 3
reason q --method power --alpha 2
reason q --method entropy --bits 2
reason q --method best --scorer p-true
reason q --method best --verifier v --timeout 3
reason q --confidence 0.5
reason --file f --limit 3 --analyse --verifier v --scorer s
reason q --raw
reason q --template plain
reason q --method steps --verifier v
reason --file f --hopeless 0.5
models --known --json
models --default d
tune d --screen --resume
tune d --search S --dry-run
pretrain d --screen
eval t --json --items
eval t --vary typos --variants 2
eval t --text f --shots 1
eval --compare t --by c --positions --report r
inside t --attribution --against 3
inside t --patch p --against 3 --part mlp
inside --neighbours 0 --centred --output
inside --sum s --output
inside --relations --output
inside t --attention 0.0 --without-first
inside t --rollout --without-first
inside t --save s --keep k
inside t --lens --tuned
inside t --toward a --away b --layer 0 --direction d
synth S --report --effect
synth S --generations 1
bench --rounds 3 -M m
bench kernels --case c --json
"""


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LIKELY_MODEL", raising=False)
    for name in ("f", "S"):
        (tmp_path / name).write_text("")
    (tmp_path / "t.jsonl").write_text('{"good": "a", "bad": "b"}\n')


def test_an_option_that_would_be_ignored_is_refused_by_name(likely: Likely) -> None:
    for line in WRONG.strip().splitlines():
        call, _, option = line.partition(" | ")
        code, out, err = likely(*shlex.split(call))
        said = err.splitlines()[-1]
        assert code in (1, 2) and not out and option in said, (call, err)


def test_no_other_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for line in FINE.strip().splitlines():
        verb, *words = line.split()
        command = program.get_command(click.Context(program), verb)
        assert command is not None
        rules.check(command.make_context(verb, words))
    monkeypatch.setenv("LIKELY_MODEL", "m")  # of the environment: none that was given
    bench = program.get_command(click.Context(program), "bench")
    assert bench is not None
    rules.check(bench.make_context("bench", ["kernels"]))


@pytest.mark.parametrize("name", NEEDS)
def test_a_training_option_that_would_change_nothing_is_refused(name: str) -> None:
    """Even where it has its default; beside what it needs it is taken."""
    alone: dict[str, Any] = {
        "rank": {"kind": "full"},
        "modules": {"kind": "full"},
        "floor": {"schedule": "constant"},
    }.get(name, {})
    beside: dict[str, Any] = {
        "anneal": {"objective": "mdlm"},
        "beta": {"objective": "dpo"},
        "group_size": {"quantize": 4},
    }.get(name, {})
    value = {"rank": 8, "modules": ("*",), "anneal": 0.0, "beta": 0.1, "group_size": 64, "floor": 0.0}[name]
    with pytest.raises(ParameterError, match=name):
        configure({name: value, **alone})
    assert getattr(configure({name: value, **beside}), name) == value


@pytest.mark.parametrize("option", ["--out", "--peft"])
def test_fuse_writes_only_into_a_folder_of_its_own(option: str, tmp_path: Path, likely: Likely) -> None:
    """Said before an adapter is looked for, and what is there is untouched."""
    file, folder = tmp_path / "file", tmp_path / "model"
    folder.mkdir()
    for path in (file, folder / "model.safetensors"):
        path.write_text("kept")
    for place, words in ((file, "is a file"), (folder, "is not empty"), ("", "takes the name of a folder")):
        code, _, err = likely("fuse", "adapter", option, place)
        assert code == 1 and words in err and option in err and err.count("\n") == 1
    assert file.read_text() == (folder / "model.safetensors").read_text() == "kept"
    assert len(list(folder.iterdir())) == 1


def test_a_training_needs_a_folder_with_a_name() -> None:
    with pytest.raises(ParameterError, match="--out"):
        configure({"out": ""})


def test_a_training_has_one_length_and_it_is_a_number() -> None:
    with pytest.raises(ParameterError, match="epochs or steps"):
        configure({"epochs": 2.0, "steps": 10})
    for name in ("epochs", "rate", "clip"):
        with pytest.raises(ParameterError, match=name):
            configure({name: float("inf")})


def test_every_default_is_said(likely: Likely) -> None:
    """An option with a default says which in its help, or that it has one."""
    silent = []

    def look(command: click.Command, name: str) -> None:
        if isinstance(command, click.Group):
            for each, inner in command.commands.items():
                look(inner, f"{name} {each}")
            return
        for param in command.params:
            if not isinstance(param, click.Option) or param.is_flag or param.hidden:
                continue
            has = (isinstance(param.default, str | int | float) and param.default not in ("", 0)) or param.show_default
            if has and not param.show_default and "efault" not in (param.help or ""):
                silent.append(f"{name} {param.opts[0]}")

    for verb in VERBS:
        command = program.get_command(click.Context(program), verb)  # type: ignore[attr-defined]
        assert command is not None
        look(command, verb)
    assert silent == []
    shown = likely("estimate", "curve", "--help").out
    assert "[default: 3; " in shown and "[default: estimate]" in shown and "[default: 100; " in shown


def test_rows_that_are_there_twice_are_kept_unless_it_is_asked() -> None:
    assert configure({}).duplicates and not configure({"duplicates": False}).duplicates
