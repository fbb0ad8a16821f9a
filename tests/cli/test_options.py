"""Which options go together: what would be ignored is refused by its name, before a model is looked for."""

from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from app.cli import likely as program
from app.cli.rules import RULES, SAMPLING, OptionRule
from app.tui.chat.start import Start
from engine.errors import DataError, ParameterError
from engine.presets import ORDERS
from engine.reason import belief
from engine.transforms import Temperature
from engine.tune.config import NEEDS, configure

DRAWN: list[list[str]] = [*([["--temp", "1"]] * (len(SAMPLING) - 1)), ["--temp", "0"]]
STATES: dict[str, list[list[str]]] = {  # calls in which each rule of a verb holds, in the order of the table
    "run": [
        *DRAWN,
        ["--resample"],
        [],
        ["--resample", "--regex", "a"],
        ["--activation-bits", "8"],
        ["--steps", "1"],
        ["--replay", "x.jsonl"],
    ],
    "chat": [*DRAWN, ["--plain"], ["--server", "127.0.0.1:1"], [], []],
    "fill": [*DRAWN, ["--nbest", "2"], ["--replay", "x.jsonl"]],
    "fuse": [["adapter", "--peft", "y"], ["adapter", "--out", "z"]],
    "quantize": [["model", "--gguf", "f16"]],
    "reason": [
        *DRAWN,
        [],
        [],
        [],
        [],
        [],
        [],
        ["--method", "best", "--verifier", "x"],
        ["--method", "reflect"],
        ["--scorer", "p-true"],
        ["--method", "best"],
        ["-n", "1"],
        ["--file", str(Path(__file__))],
        ["--raw"],
    ],
    "explain": [["hello", "--activation-bits", "8"], ["hello"], ["hello"], ["hello", "--formula"]],
    "models": [["--known"]],
    "pretrain": [["text", "--screen"]],
    "tune": [["rows", "--screen"], ["rows", "--search", __file__]],
    "eval": [
        ["arithmetic"],
        ["--text", "x"],
        ["--generated", "a", "--reference", "b"],
        ["--compare"],
        ["arithmetic"],
    ],
    "inside": [["hello"]] * 8,
    "bench": [["kernels"], ["model"]],
    "synth": [[__file__, "--generations", "2"]],
}
CASES = [(verb, state, rule) for verb, rules in RULES.items() for state, rule in zip(STATES[verb], rules, strict=True)]


def value_of(param: click.Parameter) -> list[str]:
    """A value that the option takes, its default where it has one."""
    assert isinstance(param, click.Option)
    if param.is_flag:
        return []
    kind: Any = param.type
    if isinstance(kind, click.Choice):
        return [str(kind.choices[0])]
    return [belief.NAME] if param.name == "by" else ["1"]


@pytest.mark.parametrize(("verb", "state", "rule"), CASES)
def test_what_a_rule_excludes_is_refused_by_name(verb: str, state: list[str], rule: OptionRule) -> None:
    command = program.get_command(click.Context(program), verb)  # type: ignore[attr-defined]
    options = {param.name: param for param in command.params if isinstance(param, click.Option)}
    out = set(rule.refused) | (options.keys() - set(rule.only) if rule.only else set())
    assert out <= options.keys() | {"what"}
    for name in out & options.keys():
        flag = options[name].opts[0]
        result = CliRunner().invoke(program, [verb, *state, flag, *value_of(options[name])])
        assert result.exit_code == 2, (flag, result.output)
        assert flag in result.output, (flag, result.output)


def test_lower_layers_are_not_mixed_with_rounded_activations() -> None:
    result = CliRunner().invoke(program, ["run", "hi", "--activation-bits", "8", "--strategy", "dola 2"])
    assert isinstance(result.exception, ParameterError) and "--activation-bits" in str(result.exception)


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
def test_fuse_writes_only_into_a_folder_of_its_own(option: str, tmp_path: Path) -> None:
    """Said before an adapter is looked for, and what is there is untouched."""
    file, folder = tmp_path / "file", tmp_path / "model"
    folder.mkdir()
    for path in (file, folder / "model.safetensors"):
        path.write_text("kept")
    for place, words in ((file, "is a file"), (folder, "is not empty"), ("", "takes the name of a folder")):
        result = CliRunner().invoke(program, ["fuse", "adapter", option, str(place)])
        assert isinstance(result.exception, DataError) and words in str(result.exception), result
        assert option in str(result.exception)
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


def test_the_full_screen_takes_what_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    """All the options of a chat reach the screen, and a chat without any begins as the screen does."""
    seen: list[Any] = []
    monkeypatch.setattr("app.tui.run", lambda **given: seen.append(given["start"]) or 0)
    monkeypatch.setattr("app.cli.chat.on_terminal", lambda: True)
    asked = ["--temp", "0.3", "--top-k", "5", "--order", "llama.cpp", "--system", "S", "--seed", "7", "-m", "9"]
    for args in ([], asked, ["--seed", "0"]):
        result = CliRunner().invoke(program, ["chat", *args])
        assert result.exit_code == 0, result.output
    nothing, start, seeded = seen
    assert nothing is None
    assert isinstance(start, Start) and start.recipe is not None
    assert Temperature(0.3) in start.recipe.transforms
    assert start.order == tuple(kind.__name__ for kind in ORDERS["llama.cpp"])
    assert (start.system, start.seed, start.max_tokens) == ("S", 7, 9)
    assert seeded == Start(seed=0)


@pytest.mark.parametrize(
    ("args", "option"),
    [
        ("chat --plain --resume x", "--resume"),
        ("chat --stop x", "--stop"),
        ("run --replay x --special", "--special"),
        ("run --replay x --seed 1", "--seed"),
        ("run --replay x --raw", "--raw"),
        ("tune rows --kind full --rank 4", "rank"),
        ("tune rows --beta 0.2", "beta"),
        ("tune rows --epochs 1 --steps 2", "epochs"),
        ("fuse adapter --peft x --bits 4", "--bits"),
        ("fuse adapter --out x --group-size 32", "--group-size"),
        ("bench --case x", "--case"),
        ("bench kernels -M x", "--model"),
        ("run x --xtc-threshold 0.2", "--xtc-threshold"),
        ("run x --preset greedy --dynatemp-range 1", "--dynatemp-range"),
        ("reason x --limit 2", "--limit"),
        ("explain x --formula --top 2", "--top"),
        ("models --known --default x", "--default"),
        ("eval --text x --shots 4", "--shots"),
    ],
)
def test_a_call_with_an_option_that_would_be_ignored(args: str, option: str) -> None:
    result = CliRunner().invoke(program, args.split())
    assert result.exit_code, result.output
    assert option in result.output + str(result.exception)


def test_a_terminal_without_a_screen_resumes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.cli.chat.draws_no_screen", lambda: True)
    result = CliRunner().invoke(program, ["chat", "--resume", "x"])
    assert result.exit_code == 2 and "--resume" in result.output


def test_rows_that_are_there_twice_are_kept_unless_it_is_asked() -> None:
    assert configure({}).duplicates and not configure({"duplicates": False}).duplicates
