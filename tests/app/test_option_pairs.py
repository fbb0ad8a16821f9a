"""All pairs of options of every verb: refused by name, or both arrive where the verb hands over what was asked."""

import json
import random
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

import click
import pytest

from app.cli import VERBS as ALL_VERBS
from engine.diffusion.unmasking import Unmasking
from engine.presets import PARAMETERS
from engine.pretrain.config import PretrainConfig
from engine.transforms import TRANSFORMS
from engine.tune.config import Config
from tests.app.boundaries import BARE, FOUND, VERBS, Boundaries, Plan, Refused, flags

TABLES = {
    "tune": Config(),
    "pretrain": PretrainConfig(),
    "fill": Unmasking(),
    "run": Unmasking(),
}  # options with their defaults
Call = dict[str, list[str]]  # words by parameter name, "" for what is no option

FIRST: dict[str, list[str]] = {  # the arguments of a verb
    "run": ["PROMPT"],
    "fill": ["a [MASK:4]"],
    "reason": ["QUESTION"],
    "explain": ["hello"],
    "inside": ["hello"],
    "eval": ["arithmetic"],
    "pretrain": ["one.txt"],
    "tune": ["rows.jsonl"],
    "fuse": ["adapter"],
    "quantize": ["model"],
    "diff": ["a", "b", "TEXT"],
    "rm": ["model"],
    "synth": ["one.toml"],
}
NEEDS: dict[tuple[str, str], Call] = {  # beside what an option stands, "" in place of the arguments
    ("run", "replay"): {"": []},
    ("run", "length_penalty"): {"beam": ["--beam", "6"]},
    ("run", "early_stopping"): {"beam": ["--beam", "6"]},
    ("run", "groups"): {"beam": ["--beam", "6"]},
    ("run", "diversity"): {"beam": ["--beam", "6"], "groups": ["--groups", "2"]},
    ("run", "budget"): {"exact_mode": ["--exact-mode"]},
    ("run", "choice"): {"others": [f"--choice={text}" for text in ("a", "b", "ab", "ba", "cd")]},
    ("run", "resample"): {"regex": ["--regex", "a"], "answers": ["-n", "7"]},
    ("chat", "stop"): {"plain": ["--plain"]},
    ("chat", "parallel"): {"plain": ["--plain"]},
    ("chat", "server_key"): {"server": ["--server", "127.0.0.1:1"]},
    ("reason", "verifier"): {"method": ["--method", "best"]},
    ("reason", "timeout"): {"method": ["--method", "best"], "verifier": ["--verifier", "true"]},
    ("reason", "beams"): {"method": ["--method", "steps"]},
    ("reason", "step_end"): {"method": ["--method", "steps"]},
    ("reason", "bits"): {"method": ["--method", "entropy"]},
    ("reason", "alpha"): {"method": ["--method", "power"]},
    ("reason", "file"): {"": []},
    ("reason", "limit"): {"": [], "file": ["--file", "one.txt"]},
    ("reason", "analyse"): {"": [], "file": ["--file", "one.txt"]},
    ("explain", "file"): {"": []},
    ("explain", "samples"): {"adapters": ["--adapter", "folder"]},
    ("explain", "attended"): {"as_json": ["--json"]},
    ("inside", "file"): {"": []},
    ("inside", "merges"): {"": []},
    ("inside", "neighbours"): {"": []},
    ("inside", "scores"): {"": []},
    ("inside", "lens"): {"heads": ["--heads"]},
    ("inside", "without_first"): {"attention": ["--attention", "0.1"]},
    ("inside", "against"): {"attribution": ["--attribution"]},
    ("inside", "part"): {"patch": ["--patch", "jello"]},
    ("inside", "away"): {"toward": ["--toward", "ab"]},
    ("inside", "layer"): {"toward": ["--toward", "ab"], "away": ["--away", "cd"]},
    ("inside", "toward"): {"away": ["--away", "cd"]},
    ("inside", "direction"): {"toward": ["--toward", "ab"], "away": ["--away", "cd"]},
    ("inside", "centred"): {"": [], "neighbours": ["--neighbours", "5"]},
    ("inside", "output"): {"": [], "neighbours": ["--neighbours", "5"]},
    ("inside", "keep"): {"save": ["--save", "kept.safetensors"]},
    ("eval", "items"): {"as_json": ["--json"]},
    ("eval", "generated"): {"": [], "reference": ["--reference", "one.txt"]},
    ("eval", "reference"): {"": [], "generated": ["--generated", "one.txt"]},
    ("eval", "window"): {"text": ["--text", "one.txt"]},
    ("eval", "stride"): {"text": ["--text", "one.txt"]},
    ("eval", "positions"): {"text": ["--text", "one.txt"]},
    ("eval", "paths"): {"text": ["--text", "one.txt"]},
    ("eval", "variants"): {"kinds": ["--vary", "typos"]},
    ("eval", "paraphraser"): {"kinds": ["--vary", "paraphrase"]},
    ("eval", "judge"): {"models": ["-M", "a", "-M", "b"]},
    ("eval", "difference"): {"models": ["-M", "a", "-M", "b"]},
    ("tune", "anneal"): {"objective": ["--objective", "mdlm"]},
    ("tune", "beta"): {"objective": ["--objective", "dpo"]},
    ("tune", "group_size"): {"quantize": ["--quantize", "4"]},
    ("tune", "kl_data"): {"kl": ["--kl", "0.5"]},
    ("pretrain", "block_size"): {"objective": ["--objective", "block"]},
    ("fuse", "kind"): {"out": ["--out", "new.gguf"]},
    ("fuse", "group_size"): {"bits": ["--bits", "4"], "out": ["--out", "new"]},
    ("fuse", "peft"): {},
    ("fuse", "lora"): {},
    ("bench", "case"): {"": ["kernels"]},
}
for verb in ("fill", "run"):
    NEEDS[verb, "noise"] = {"by": ["--by", "ancestral"]}
    NEEDS[verb, "cache"] = {"block": ["--block", "2"]}
    NEEDS[verb, "check"] = NEEDS[verb, "cache"] | {"cache": ["--cache", "dual"]}
NEEDS["fill", "replay"] = {"": []}
for kind in TRANSFORMS:
    switch = next((p for p in kind.parameters if p.off is not None), None)
    for detail in kind.parameters:
        if detail.off is None:
            for verb in ("run", "fill", "chat", "reason"):
                NEEDS[verb, detail.name] = {switch.name: [switch.flag, "0.45"]}
for name in ("data", "rows", "bits", "force", "as_json", "model"):
    NEEDS["fuse", name] = {"out": ["--out", "new"]}
APART = {  # what a tiny model without a chat template and whole words has no answer for, and the default's own name
    ("inside", name) for name in ("chat", "tuned", "tune_lens", "sum", "relations", "raw")
}
VALUES: dict[tuple[str, str], tuple[str, ...]] = {
    ("run", "strategy"): ("ngram 3", "beam 3"),
    ("run", "json_schema"): ("one.txt", "two.txt"),
    ("run", "groups"): ("2", "3"),
    ("run", "beam"): ("6", "12"),
    ("reason", "template"): ("boxed", "few-shot"),
    ("reason", "by"): ("certainty", "mean"),
    ("reason", "paths"): ("8", "12"),
    ("reason", "beams"): ("2", "3"),
    ("reason", "confidence"): ("0.9", "0.8"),
    ("reason", "hopeless"): ("0.2", "0.1"),
    ("explain", "samples"): ("3", "4"),
    ("eval", "draws"): ("16", "32"),
    ("eval", "stride"): ("7", "9"),
    ("inside", "attention"): ("0.2", "1.3"),
    ("inside", "ablate"): ("0.2", "1.3"),
    ("inside", "patch"): ("cello", "fifth"),
    ("inside", "spellings"): ("ab", "abc"),
    ("inside", "toward"): ("xy", "zw"),
    ("inside", "away"): ("cd", "ef"),
    ("inside", "layer"): ("0",),
    ("inside", "merges"): ("ab", "abba"),
    ("inside", "save"): ("kept.safetensors", "kept2.safetensors"),
    ("inside", "keep"): ("layers.0.*", "layers.*"),
    ("inside", "direction"): ("new", "new2"),
    ("eval", "prefix"): ("5", "none"),
    ("eval", "measures"): ("acc", "acc_norm"),
    ("eval", "strategy"): ("ngram 3", "beam 3"),
    ("eval", "validation"): ("one.jsonl", "two.jsonl"),
    ("fill", "cache"): ("prefix", "dual"),
    ("fill", "remask"): ("0.3", "0.4"),
    ("pretrain", "config"): ("seed.toml", "seed2.toml"),
    ("pretrain", "context"): ("9", "17"),
    ("pretrain", "block_size"): ("16", "32"),
    ("pretrain", "valid"): ("0.3", "0.4"),
    ("tune", "quantize"): ("4", "8"),
    ("tune", "group_size"): ("32", "128"),
    ("tune", "map"): ("a=prompt", "b=prompt"),
    ("tune", "config"): ("one.toml", "two.toml"),
    ("tune", "search"): ("one.toml", "two.toml"),
    ("quantize", "group"): ("32", "128"),
    ("fuse", "rows"): ("1", "2"),
    ("fuse", "kind"): ("q8_0", "q4_0"),
    ("reason", "extract"): ("choice", "line"),
    ("run", "early_stopping"): ("true", "never"),
    ("quantize", "bits"): ("3", "5"),
    ("quantize", "kind"): ("q8_0", "q4_0"),
    ("fuse", "out"): ("new", "new2"),
    ("fuse", "peft"): ("new", "new2"),
    ("fuse", "lora"): ("new", "new2"),
    ("bench", "contexts"): ("5,7", "9"),
    ("diff", "metrics"): ("js", "tv"),
    ("chat", "server"): ("127.0.0.1:2", "http://localhost:3"),
    ("serve", "host"): ("localhost", "127.0.0.2"),
}
for verb in ("run", "fill", "chat", "reason"):
    VALUES |= {(verb, "bias"): ("5=1", "6=1"), (verb, "order"): ("hugging-face",)}
    VALUES[verb, "preset"] = ("precise", "wild")
    NEEDS[verb, "order"] = {"preset": ["--preset", "balanced"]}  # of one transform there is one order
NEEDS["run", "order"] = {"preset": ["--preset", "balanced", "--temp", "2"]}  # hot enough to tell among choices


def values(verb: str, name: str, option: click.Option) -> list[list[str]]:
    """Two ways to give an option, neither its default: of a flag the one that there is."""
    flag = option.opts[0]
    kind, default = option.type, str(option.default)
    if hasattr(table := TABLES.get(verb), name):
        default = str(getattr(table, name))
    if option.secondary_opts:
        return [[option.secondary_opts[0] if default == "True" else flag]]
    if option.is_flag:
        return [[flag]]
    if given := VALUES.get((verb, name)):
        two = list(given)
    elif isinstance(kind, click.Choice):
        two = [str(choice) for choice in kind.choices if str(choice) != default][:2]
    elif isinstance(kind, click.Path):
        two = ["folder", "folder2"] if not kind.file_okay else ["one.txt", "two.txt"]
    elif name in PARAMETERS:
        low, high = max(PARAMETERS[name].low, 0.0), min(PARAMETERS[name].high, 5.0)
        two = ["3", "4"] if PARAMETERS[name].whole else [f"{low + share * (high - low):g}" for share in (0.3, 0.6)]
    elif kind.name in ("integer", "integer range"):
        two = ["7", "9"]
    elif kind.name in ("float", "float range"):
        two = ["0.3", "0.6"]
    else:
        two = ["word", "other"]
    return [[flag, value] for value in two]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to stand in, with the files that are named above."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIKELY_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("LIKELY_MODEL", raising=False)
    for name in ("one.txt", "two.txt"):
        (tmp_path / name).write_text(f'{{"title": "{name}"}}')
    for rank, name in ((3, "one"), (5, "two")):
        (tmp_path / f"{name}.toml").write_text(f"rank = {rank}\nlength = {rank}\n")
        row = {"context": name, "choices": ["a", "b"], "gold": 0}
        (tmp_path / f"{name}.jsonl").write_text(json.dumps(row))
    for seed, name in ((3, "seed"), (5, "seed2")):
        (tmp_path / f"{name}.toml").write_text(f"seed = {seed}\nbatch = {seed}\n")
    for name in ("folder", "folder2"):
        (tmp_path / name).mkdir()
    return tmp_path


class Asked:
    """Plans of one verb's calls, each made once."""

    def __init__(self, verb: str, boundaries: Boundaries) -> None:
        self.verb, self.boundaries = verb, boundaries
        self.options = {name: option for name, option in flags(verb).items() if (verb, name) not in APART}
        self.made: dict[tuple[str, ...], Plan | Refused] = {}
        VERBS[verb](boundaries)

    def plan(self, call: Call) -> Plan | Refused:
        words = tuple(word for name in sorted(call) for word in call[name])
        if words not in self.made:
            self.made[words] = self.boundaries.call(self.verb, list(words))
        return self.made[words]

    def call(self, *names: str, other: str = "") -> Call:
        """A call with these options and what they need; of `other` its second value."""
        call: Call = {"": FIRST.get(self.verb, [])}
        for name in names:
            call |= NEEDS.get((self.verb, name), {})
        for name in names:
            call[name] = values(self.verb, name, self.options[name])[name == other]
        return call

    def faults(self, *names: str) -> Iterator[str]:
        """What is wrong with the options together: one is ignored, or they are refused without a name."""
        call = self.call(*names)
        whole = self.plan(call)
        if isinstance(whole, Refused):
            given = [word for words in call.values() for word in words if word.startswith("-")]
            spelled = [*given, *(word.lstrip("-").replace("-", "_") for word in given)]
            if not any(word in whole for word in spelled):
                yield f"{self.verb} {call}: refused without a name: {whole}"
            return
        for name in names:
            without = self.plan({n: words for n, words in call.items() if n != name})
            if without == whole:
                yield f"{self.verb} {call}: {name} is ignored"


@pytest.fixture
def asked(request: pytest.FixtureRequest, place: Path, monkeypatch: pytest.MonkeyPatch) -> Asked:
    return Asked(request.param, Boundaries(monkeypatch))


every_verb = pytest.mark.parametrize("asked", VERBS, indirect=True)


def test_every_verb_is_asked() -> None:
    assert {*VERBS, *BARE, *FOUND} == set(ALL_VERBS)
    assert not any(flags(verb) for verb in BARE)


@every_verb
def test_each_option_arrives_with_its_value(asked: Asked) -> None:
    faults = []
    for name, option in asked.options.items():
        call = asked.call(name)
        plans = [asked.plan(call), asked.plan({n: words for n, words in call.items() if n != name})]
        if len(values(asked.verb, name, option)) == 2:
            plans.append(asked.plan(asked.call(name, other=name)))
        if isinstance(plans[0], Refused) or len(set(plans)) < len(plans):
            faults.append(f"{call}: {[plan[-200:] for plan in plans]}")
    assert not faults, "\n".join(faults)


def faults(asked: Asked, most: int) -> list[str]:
    """What is wrong with so many pairs at most, the same ones every time."""
    pairs = [*combinations(asked.options, 2)]
    chosen = random.Random(19).sample(pairs, min(most, len(pairs)))
    return [fault for pair in chosen for fault in asked.faults(*pair)]


@pytest.mark.slow
@every_verb
def test_two_options_both_arrive_or_are_refused_by_name(asked: Asked) -> None:
    assert not (found := faults(asked, 60 if asked.verb == "inside" else 300)), "\n".join(found)


@pytest.mark.soak
@every_verb
def test_all_pairs(asked: Asked) -> None:
    assert not (found := faults(asked, 10**6)), "\n".join(found)
