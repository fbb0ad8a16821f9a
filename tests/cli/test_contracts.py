"""The contract of every verb: what one call prints, in text and with --json, on tiny models.

`contracts.json` holds it: of a text the words of its lines, of objects their
keys and the types of their values. So a number may differ with the machine, and a line, a unit or a key may not go,
come or change its name unseen. LIKELY_CONTRACTS=write has the tests write what is printed now: read the diff.
"""

import json
import os
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner

from likely.app.cli import likely

KEPT = Path(__file__).with_name("contracts.json")
CALLS = {  # a verb -> its words; with --json too where it has that
    "learn": "--list",
    "run": '"Hi" --temp 0 -m 6 --seed 1',
    "fill": '"a[MASK:4]b" -M mine --seed 1',
    "reason": '"What is 2 + 2?" -n 2 -m 4 --seed 1',
    "explain": '"The capital of France is" -c " Paris"',
    "eval": "pairs.jsonl t.jsonl -M one -M two",
    "inside": '"The capital"',
    "chat": "--plain -m 4 --temp 0 --seed 1",
    "synth": "sums.toml --report",
    "pretrain": "novels/ --size shape.toml --tokens 600 --context 32 --out OUT --seed 1",
    "tune": "rows.jsonl --steps 2 --out OUT --seed 1",
    "posterior laplace": "my-adapter",
    "posterior swag": "m1 --steps 2",
    "posterior ensemble": "m2 m3",
    "estimate bound": "m0 --trained rows.jsonl",
    "estimate curve": "rows.jsonl --sizes 4,8 --seeds 2 -c few.toml",
    "estimate meta": "tasks --held-out c --rounds 2 --rows 4 --sizes 4,8 --seeds 1 -c few.toml --out meta",
    "estimate transfer": "rows.jsonl -M one --layers 1,-1 --sizes 0,8 -c few.toml --out transfer",
    "bench": "-M one --rounds 2 --tokens 2 --contexts 8 -n 2",
    "quantize": "one --bits 4 --to OUT",
    "fuse": "m4 --out OUT --rows 2",
    "diff": 'one two "The capital of France is"',
    "scale fit": "runs.csv --budget 1e18",
    "scale plan": "ladder.toml",
    "scale run": "ladder.toml",
    "scale show": "runs.csv --svg runs.svg",
    "scale toy": "bigrams --seeds 2 --text words.txt",
    "models": "--known",
    "prove": "sample --draws 200",
    "doctor": "",
    "completion": "zsh",
}
ELSEWHERE = {
    "serve": "tests/serve",
    "man": "tests/cli/test_man.py",
    "pull": "what is fetched: tests of sources",
    "rm": "the same",
}
DOCTORED = ("doctor", "bench")  # what they print is of the machine: keys and no text


def verbs(command: click.Command = likely, name: str = "") -> Iterator[tuple[str, click.Command]]:
    if isinstance(command, click.Group):
        for part in command.list_commands(click.Context(command)):
            found = command.get_command(click.Context(command), part)
            assert found is not None
            yield from verbs(found, f"{name} {part}".strip())
    else:
        yield name, command


VERBS = dict(verbs())


def shape(value: Any) -> Any:
    """Keys and types; of a list its elements' shapes, each once. Where keys are names of data there is one of them."""
    if isinstance(value, dict):
        return {key: shape(part) for key, part in sorted(value.items())}
    if isinstance(value, list):
        return merged([shape(part) for part in value])
    return "number" if isinstance(value, int | float) and not isinstance(value, bool) else type(value).__name__


def merged(shapes: list[Any]) -> list[Any]:
    texts = {json.dumps(part, sort_keys=True) for part in shapes}
    return [json.loads(text) for text in sorted(texts)]


def outline(text: str) -> list[str]:
    """The words of three letters or more (no piece of a tiny model is so long) of the lines, each line once."""
    soon = r"(/[\w.-]+){2,}|, of it [^;]+|; [^;]+ more if it hardly learns"  # paths, times
    lines = [" ".join(re.findall(r"[A-Za-z]{3,}", re.sub(soon, "", line))) for line in text.splitlines()]
    return [line for line in dict.fromkeys(lines) if line]


def words(verb: str, out: str) -> list[str]:
    return [*verb.split(), *shlex.split(CALLS[verb].replace("OUT", out))]


def printed(verb: str) -> dict[str, Any]:
    found: dict[str, Any] = {}
    plain = CliRunner().invoke(likely, words(verb, "text"), input="Hi\n" if verb == "chat" else "")
    assert plain.exit_code == 0, (plain.exception, plain.output)
    if verb not in DOCTORED:
        found["text"] = outline(plain.output)
    if any("--json" in option.opts for option in VERBS[verb].params):
        told = CliRunner().invoke(likely, [*words(verb, "objects"), "--json"])
        assert told.exit_code == 0, (told.exception, told.output)
        shapes = [shape(json.loads(line)) for line in told.stdout.splitlines()]
        found["json"] = [sorted(one) for one in shapes] if verb in DOCTORED else merged(shapes)
    return found


def test_every_verb_has_a_contract() -> None:
    assert {*CALLS, *ELSEWHERE} == {*VERBS}
    assert {*json.loads(KEPT.read_text())} == {*CALLS}


@pytest.mark.slow(3)
@pytest.mark.parametrize("verb", CALLS)
def test_a_verb_prints_what_it_printed(verb: str, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["likely", *words(verb, "text")])  # a training says how to go on
    (desk / "few.toml").write_text("steps = 1\nbatch = 2\n")
    (desk / "tasks").mkdir()
    for name in "abc":
        (desk / "tasks" / f"{name}.jsonl").write_text((desk / "rows.jsonl").read_text())
    (desk / "words.txt").write_text(" ".join(f"w{n % 600} w{n * n % 600}" for n in range(3000)))
    found, kept = printed(verb), json.loads(KEPT.read_text())
    if os.environ.get("LIKELY_CONTRACTS") == "write":
        KEPT.write_text(json.dumps(kept | {verb: found}, indent=1, sort_keys=True) + "\n")
        return
    assert found == kept[verb]
