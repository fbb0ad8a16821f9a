"""Lines that are printed of files: nothing in them moves a terminal, and damaged weights are named by each verb."""

import json
import re
from pathlib import Path

import numpy as np
import pytest

from likely.app.words import heat
from likely.engine.sampling.trace import file
from likely.metal import mx
from tests.cli.conftest import Likely
from tests.engine import tiny
from tests.engine.trace.test_trace import made

CLIPBOARD = "\x1b]52;c;aGk=\x07"
MOVES = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))


def model(folder: Path, **changed: tuple[tuple[int, ...], float]) -> Path:
    weights = tiny.weights(tiny.LLAMA)
    for name, (place, value) in changed.items():
        weights[name.replace("__", ".")][place] = value
    return tiny.write_folder(folder, tiny.LLAMA, {name: mx.array(array) for name, array in weights.items()})


def test_a_traces_words_are_visible(likely: Likely, tmp_path: Path) -> None:
    from dataclasses import replace

    trace = replace(made(), model=f"m{CLIPBOARD}", versions={CLIPBOARD: CLIPBOARD}, finish=CLIPBOARD)
    file.save([trace, trace], tmp_path / "run.jsonl")
    code, out, err = likely("run", "--replay", str(tmp_path / "run.jsonl"), "--temp", "2")
    assert code == 0 and "m␛]52" in out and not MOVES.search(out + err)


def test_words_of_a_call_are_visible(likely: Likely) -> None:
    for words in ((CLIPBOARD,), ("run", f"--{CLIPBOARD}"), ("run", "a", CLIPBOARD), ("run", "--replay", CLIPBOARD)):
        code, out, err = likely(*words)
        assert code in (1, 2) and not out and "]52" in err and not MOVES.search(err), err


def test_names_of_models_and_files_are_visible(likely: Likely, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = model(tmp_path / "models" / f"evil{CLIPBOARD}")
    config = json.loads((folder / "config.json").read_text())
    monkeypatch.setenv("LIKELY_MODELS", str(tmp_path / "models"))
    code, out, err = likely("models")
    assert code == 0 and "evil␛]52" in out and not MOVES.search(out + err)
    for key, value in (
        ("model_type", CLIPBOARD),
        (CLIPBOARD, 1),
        ("hidden_size", CLIPBOARD),
        ("hidden_act", CLIPBOARD),
    ):
        (folder / "config.json").write_text(json.dumps(config | {key: value}))
        code, out, err = likely("run", "hi", "-M", str(folder))
        assert code == 1 and err.count("\n") == 1 and not MOVES.search(out + err), err


def test_keys_and_values_of_rows_are_visible(likely: Likely, tmp_path: Path) -> None:
    path = tmp_path / f"rows{CLIPBOARD}.jsonl"
    for row in (
        {CLIPBOARD: 1},
        {"text": [CLIPBOARD]},
        {"messages": [{"role": CLIPBOARD, "content": "a"}]},
        {"a\n": "b"},
    ):
        path.write_text(json.dumps(row) + "\n")
        code, out, err = likely("tune", str(path), "--dry-run")
        assert code == 1 and out == "" and err.count("\n") == 1 and not MOVES.search(err), err
    path.write_text("9" * 5000)
    assert "at most 20 digits" in likely("tune", str(path), "--dry-run")[2]
    path.write_text("[" * 100_000)
    assert "nested deeper" in likely("tune", str(path), "--dry-run")[2]


def test_a_terminal_gets_the_programs_own_colours_alone() -> None:
    painted = heat.paint("word", 3, "true", True)
    for own in (painted, "\x1b[1mbold\x1b[0m", "\r\x1b[Kreading 1 of 2", "a\tb\n"):
        assert heat.harmless(own) == own
    for evil in (CLIPBOARD, "\x1b[2J", "\x1b[?1049h", "\x9b2J", "\x1bP1;2|\x1b\\", "\x1b[3A", "a\rb", "\x08", "\u202e"):
        assert not MOVES.search(heat.harmless(painted + evil).replace(painted, ""))
        assert heat.harmless(f"{evil}{painted}").endswith(painted)
    assert (
        heat.sanitize_line("a\nb\tc" + CLIPBOARD) == "a b c␛]52;c;aGk=␇"
        and len(heat.sanitize_line("x" * 9999)) <= heat.LONGEST
    )


@pytest.mark.slow
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_weights_that_are_no_numbers_are_named_by_every_verb(likely: Likely, tmp_path: Path, value: float) -> None:
    folder = str(model(tmp_path / "m", model__layers__1__mlp__up_proj__weight=((3, 5), value)))
    rows, pairs = tmp_path / "rows.jsonl", tmp_path / "pairs.jsonl"
    rows.write_text("".join(json.dumps({"text": f"ab {i} ab"}) + "\n" for i in range(4)))
    pairs.write_text(json.dumps({"context": "ab", "choices": ["a", "b"], "gold": 0}) + "\n")
    named = f"{folder} gives NaN after token 1 (layer 2 is the first): its weights are damaged, fetch it again\n"
    for args in (
        ["run", "--raw", "ab"],
        ["run", "--raw", "ab", "--beam", "2"],
        ["explain", "abab"],
        ["eval", str(pairs)],
        ["eval", "--text", str(rows), "--window", "16"],
        ["reason", "1 + 1?", "-n", "2"],
        ["inside", "ab", "--json"],
        ["inside", "--scores"],
        ["inside", "ab", "--importance", "--csv"],
        ["inside", "ab", "--save", str(tmp_path / "kept")],
    ):
        code, out, err = likely(*args, "-M", folder)
        assert code == 1 and err.endswith(f"likely: {named}") and "NaN" not in out, (args, out, err)
    code, _, err = likely("tune", str(rows), "--model", folder, "--out", str(tmp_path / "out"), "--steps", "2")
    assert code == 1 and err.endswith(f"likely: {named}") and not list((tmp_path / "out").glob("*.safetensors"))
    sound = str(model(tmp_path / "sound"))
    text = tmp_path / "text.txt"
    text.write_text("some words to measure on " * 400)
    for args in (
        ["diff", sound, folder, "ab"],
        ["diff", folder, sound, "ab", "--json"],
        ["quantize", folder, "--group", "32", "--text", str(text), "--to", str(tmp_path / "small")],
    ):
        code, out, err = likely(*args)
        assert code == 1 and err.endswith(f"likely: {named}") and not out, (args, out, err)
    assert not [path for path in tmp_path.iterdir() if path.name in ("small", "kept")]


def test_an_embedding_that_is_no_number_has_no_neighbours(likely: Likely, tmp_path: Path) -> None:
    folder = str(model(tmp_path / "m", model__embed_tokens__weight=((100, 5), np.nan)))
    code, out, err = likely("inside", "--neighbours", "5", "-M", folder)
    assert code == 1 and not out and err.count("\n") == 1 and "holds NaN" in err
