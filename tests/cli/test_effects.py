"""No option is ignored: with it a verb prints or writes something else than without, or refuses it by its name.

Each call is made on small models in an empty folder; what it prints, on both streams, and the files that it leaves are
its outcome, without what a clock says. `UNSEEN` is what shows nothing of itself there, and why.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from itertools import count
from pathlib import Path

import click
import numpy as np
import pytest
from click.testing import CliRunner

from likely.app.cli import likely as program
from likely.engine.sampling.presets import PARAMETERS
from likely.engine.sampling.trace.unmasking import Unmasking
from likely.engine.sampling.transforms import TRANSFORMS
from likely.engine.train.pretrain.config import PretrainConfig
from likely.engine.weights.adapters.config import Config
from likely.metal import mx
from tests.cli.conftest import Likely, random_model
from tests.engine.pretrain import texts
from tests.support import bigram

DRAWN = ["--seed", "3", "-m", "8"]
TRAINED = [
    "rows.jsonl",
    "-M",
    "plain",
    "--length",
    "32",
    "--eval-every",
    "0",
    "--out",
    "made",
    "--steps",
    "2",
    "--json",
    "--no-verdict",
]
MADE = ["words.txt", "--size", "20k", "--tokenizer", "bytes", "--context", "32", "--tokens", "2000", "--json"]
CALLS: dict[str, list[str]] = {  # what each option is added to
    "run": ["hello", *DRAWN, "--json"],
    "chat": ["--plain", *DRAWN],
    "fill": ["ab[MASK:4]", "-M", "masked", "--seed", "3", "--json"],
    "reason": ["hello", *DRAWN, "-n", "3", "--extract", "line", "--json"],
    "explain": ["hello there", "--json"],
    "inside": ["hello", "-M", "plain", "--json", "--lens"],
    "eval": ["t.jsonl", "--json"],
    "tune": TRAINED,
    "pretrain": MADE,
    "quantize": ["plain", "--to", "made", "--text", "text.txt", "--group", "32"],
    "fuse": ["adapter", "--out", "made"],
    "diff": ["plain", "other", "hello"],
    "posterior laplace": ["adapter", "--json"],
    "posterior swag": ["adapter", "--steps", "4", "--json"],
    "scale fit": ["runs.csv", "--refits", "100", "--json"],
    "synth": ["synth.toml"],
    "models": [],
}
QUESTION = ["hello", *DRAWN, "-n", "3", "--extract", "line", "--json"]
MASKED = ["hello", "-M", "masked", *DRAWN, "--json"]
TEXT, CHOSEN, ASKED = ["--text", "text.txt", "--json"], ["t.jsonl", "--json"], ["q.toml", "--json"]
WAYS: dict[tuple[str, str], list[str]] = {  # the call of an option that has no place in the verb's own
    ("run", "as_json"): ["hello", *DRAWN],
    ("run", "quiet"): ["hello", *DRAWN],
    ("run", "special"): ["x", "--raw", "--logit-bias", f"{bigram.EOS}=99", *DRAWN],
    ("run", "replay"): [],
    ("run", "length_penalty"): ["hello", *DRAWN, "--json", "--beam", "3"],
    ("run", "groups"): ["hello", *DRAWN, "--json", "--beam", "6"],
    ("run", "diversity"): ["hello", *DRAWN, "--json", "--beam", "6", "--groups", "2"],
    ("run", "budget"): ["hello", "-m", "3", "--json", "--exact-mode"],
    ("run", "resample"): ["hello", *DRAWN, "--json", "--regex", "(a|b){3}", "-n", "4"],
    ("reason", "raw"): ["hello", *DRAWN, "-n", "3", "--json"],
    ("reason", "as_json"): ["hello", *DRAWN, "-n", "3"],
    ("reason", "verifier"): [*QUESTION, "--method", "best"],
    ("reason", "by"): [*QUESTION, "--method", "best"],
    ("reason", "beams"): [*QUESTION, "-m", "40", "--method", "steps", "--step-end", "a"],
    ("reason", "step_end"): [*QUESTION, "-m", "40", "--method", "steps"],
    ("reason", "bits"): [*QUESTION, "--method", "entropy"],
    ("reason", "alpha"): [*QUESTION, "--method", "power"],
    ("reason", "file"): QUESTION[1:],
    ("reason", "limit"): [*QUESTION[1:], "--file", "q.jsonl"],
    ("reason", "analyse"): [*QUESTION[1:], "--file", "q.jsonl"],
    ("reason", "confidence"): [*QUESTION, "-n", "9", "--temp", "0.01"],
    ("explain", "file"): ["--json"],
    ("explain", "as_json"): ["hello there"],
    ("explain", "samples"): ["hello", "-M", "plain", "-A", "fitted", "--json"],
    ("inside", "model"): ["hello", "--json", "--lens"],
    ("inside", "file"): ["-M", "plain", "--json"],
    ("inside", "without_first"): ["hello", "-M", "plain", "--json", "--attention", "0.1"],
    ("inside", "against"): ["hello", "-M", "plain", "--json", "--attribution"],
    ("inside", "part"): ["hello", "-M", "plain", "--json", "--patch", "jello"],
    ("inside", "toward"): ["hello", "-M", "plain", "--json", "--away", "cd"],
    ("inside", "away"): ["hello", "-M", "plain", "--json", "--toward", "cd"],
    ("inside", "layer"): ["hello", "-M", "plain", "--json", "--toward", "x", "--away", "y"],
    ("inside", "direction"): ["hello", "-M", "plain", "--json", "--toward", "x", "--away", "y"],
    ("inside", "centred"): ["-M", "plain", "--json", "--neighbours", "5"],
    ("inside", "output"): ["-M", "plain", "--json", "--neighbours", "5"],
    ("inside", "keep"): ["hello", "-M", "plain", "--json", "--save", "kept.safetensors"],
    ("inside", "as_json"): ["hello", "-M", "plain", "--heads"],
    ("inside", "csv"): ["hello", "-M", "plain", "--heads"],
    ("inside", "svg"): ["hello", "-M", "plain", "--heads"],
    ("eval", "as_json"): CHOSEN[:1],
    ("eval", "text"): ["--json"],
    ("eval", "window"): TEXT,
    ("eval", "stride"): [*TEXT, "--window", "64"],
    ("eval", "prefix"): TEXT,
    ("eval", "positions"): TEXT,
    ("eval", "paths"): TEXT,
    ("eval", "draws"): [*TEXT, "-M", "masked", "--window", "32"],
    ("eval", "strategy"): ASKED,
    ("eval", "samples"): [*ASKED, "--temp", "1"],
    ("eval", "temp"): ASKED,
    ("eval", "seed"): [*ASKED, "--temp", "1"],
    ("eval", "variants"): [*CHOSEN, "--vary", "typos"],
    ("eval", "paraphraser"): [*ASKED, "--vary", "paraphrase"],
    ("eval", "judge"): ["asked.toml", "-M", "one", "-M", "two", "--json"],
    ("eval", "generated"): ["--reference", "texts.jsonl", "--json"],
    ("eval", "reference"): ["--generated", "texts.jsonl", "--json"],
    ("eval", "compare"): [],
    ("tune", "epochs"): [*TRAINED[:-4], "--no-verdict", "--epochs", "0.1"],
    ("tune", "verdict"): TRAINED[:-1],
    ("tune", "anneal"): [*TRAINED, "--objective", "mdlm"],
    ("tune", "beta"): ["pairs.jsonl", *TRAINED[1:], "--objective", "dpo"],
    ("tune", "group_size"): [*TRAINED, "--quantize", "4"],
    ("tune", "kl_data"): [*TRAINED, "--kl", "0.5"],
    ("tune", "too_long"): [*TRAINED, "--length", "8"],
    ("tune", "duplicates"): ["twice.jsonl", *TRAINED[1:]],
    ("tune", "loss"): ["chats.jsonl", *TRAINED[1:]],
    ("tune", "rslora"): [*TRAINED, "--alpha", "8"],
    ("tune", "eval_rows"): [*TRAINED, "--eval-every", "1"],
    ("tune", "patience"): [*TRAINED, "--steps", "6", "--eval-every", "1", "--rate", "0"],
    ("pretrain", "block_size"): [*MADE, "--objective", "block"],
    ("pretrain", "sample_tokens"): [*MADE, "--sample", "hi", "--eval-every", "4"],
    ("fuse", "kind"): ["adapter", "--out", "made.gguf"],
    ("fuse", "group_size"): ["adapter", "--out", "made", "--bits", "4"],
    ("fuse", "peft"): ["adapter"],
    ("fuse", "lora"): ["adapter"],
    ("tune", "as_json"): [*TRAINED[:-2], "--no-verdict"],
    ("pretrain", "as_json"): MADE[:-1],
    ("inside", "lens"): ["hello", "-M", "plain", "--json"],
    ("fuse", "out"): ["adapter"],
    ("posterior laplace", "as_json"): ["adapter"],
    ("posterior swag", "as_json"): ["adapter", "--steps", "4"],
    ("scale fit", "as_json"): ["runs.csv", "--refits", "100"],
    ("quantize", "text"): ["plain", "--to", "made", "--group", "32"],
    ("eval", "difference"): [*CHOSEN[:1], "-M", "one", "-M", "two"],
}
for verb in ("run", "fill"):
    for name in Unmasking.__dataclass_fields__:
        if verb == "run":
            WAYS[verb, name] = MASKED
    base = MASKED if verb == "run" else CALLS["fill"]
    WAYS[verb, "noise"] = [*base, "--by", "ancestral"]
    WAYS[verb, "cache"] = [*base, "--block", "2"]
    WAYS[verb, "check"] = [*base, "--block", "2", "--cache", "dual"]
WAYS["fill", "replay"] = []
WAYS["fill", "as_json"] = WAYS["fill", "quiet"] = CALLS["fill"][:-1]
WAYS["fill", "nbest"] = WAYS["fill", "mcmc"] = ["xy[MASK:2]", "-M", "one", "--seed", "3", "--json"]
DETAILS = set[str]()
for kind in TRANSFORMS:
    switch = next((p for p in kind.parameters if p.off is not None), None)
    for detail in kind.parameters:
        if detail.off is None and switch is not None:
            DETAILS.add(detail.name)
            WAYS["run", detail.name] = [*CALLS["run"], switch.flag, "0.9"]
VALUES = {  # where the first that comes to mind is not taken, or is the default
    "model": "two", "replay": "saved.jsonl", "save": "made", "strategy": "beam 3", "json_schema": '{"type":"null"}',
    "early_stopping": "never", "bias": "5=9", "order": "hugging-face", "preset": "precise", "eos": "66",
    "adapters": "adapter", "kv_bits": "8", "template": "boxed", "extract": "choice", "verifier": "false",
    "scorer": "logprob", "confidence": "0.9", "hopeless": "0.9", "method": "power", "attention": "0.2",
    "ablate": "0.2", "patch": "cello", "spellings": "ab", "merges": "abba", "layer": "0", "keep": "layers.0.*",
    "text": "text.txt", "stride": "7", "prefix": "5", "measures": "acc", "kinds": "typos", "paraphraser": "two",
    "validation": "held.jsonl", "cluster": "of", "generated": "texts.jsonl", "reference": "texts.jsonl",
    "training": "texts.jsonl", "report": "made.html", "judge": "two", "draws": "16", "difference": "0.1",
    "paths": "7", "cache": "prefix", "remask": "0.4", "config": "options.toml", "map": "completion=prompt",
    "warm_start": "adapter", "layers": "1", "modules": "q_proj", "quantize": "4", "group_size": "32",
    "kl_data": "texts.jsonl", "search": "grid.toml", "length": "8", "valid": "0.4", "context": "16", "size": "15k",
    "block_size": "16", "corpus": "made", "out": "made2", "sample": "hi", "to": "made.gguf", "group": "64",
    "kind": "q8_0", "recipe": "mixed_3_6", "mode": "mxfp4", "data": "other.jsonl", "peft": "made", "lora": "made.gguf",
    "metrics": "js", "top": "2", "adapter": "other", "budget": "7", "mapped": "tokens=tokens*2", "add": "texts",
    "default": "two", "generations": "1", "bits": "3", "rows": "3", "file": "line.txt", "files": "line.txt",
    "activation_bits": "8",
    "draft_model": "two", "decay": "0.5", "patience": "1", "vocab": "300", "base_width": "8", "steps": "3",
    "tokens": "3000", "step_end": "a", "models": "two", "chosen": "two", "by": "certainty", "stop": "c",
    "threshold": "0.003", "warmup": "1", "n": "3",
}  # fmt: skip
UNSEEN: dict[str | tuple[str, str], str] = {
    ("reason", "bits"): "of words that are begun surely",
    "stored": "of what was measured before", "hopeless": "of a vote that is nearly sure",
    "beams": "of answers of several steps", "step_end": "of answers of several steps",
    "kv_bits": "of heads of 64 numbers", "activation_bits": "of packed weights", "early_stopping": "saves work",
    "packing": "rows that fill a batch each", "limit": "tests/cli/test_reason.py", "keep_all": "of runs that diverged",
    "parallel": "of several ranks", "resume": "of what is there already", "screen": "of a terminal",
    "server": "of another machine", "server_key": "of another machine", "plain": "is in every call",
    "timeout": "of a program that hangs", "kv_budget": "of more memory than is here", "prefix_cache": "saves work",
    "ngram": "changes no answer", "draft_model": "changes no answer", "checkpointing": "saves memory",
    "tensorboard": "named by the hour", "save_every": "what is saved on the way is replaced at the end",
    "fresh": "measures again what it measured", "force": "of a loss that this adapter has not",
    "tuned": "of a lens that is kept", "chat": "of a template", "sum": "of whole words", "relations": "of whole words",
    "raw": "of a template", "family": "two that are alike at this size", "corpus": "of several trainings",
    "eval_rows": "of more rows than are here", "order": "of one transform there is one order",
    "whole": "tests/cli/test_fill.py", "tune_lens": "takes minutes", "shared": "of another program",
    "retest": "of a GPU", "check": "its line has figures that may be 0",
}  # fmt: skip
REFUSED = (
    "needs tokens in the order of the text",
    "eval_answers goes with objective = reward",
    "look_first goes with objective = reward",
)
TABLES = {"tune": Config(), "pretrain": PretrainConfig(), "fill": Unmasking(), "run": Unmasking()}
CLOCKED = re.compile(
    r'"(\w*_s|seconds|likely|elapsed|memory|available|program|looking|time|rate_s|tokens_per_s|peak)": ?[\d.e+-]+'
    r"|\d[\d.,]*(?= ?(s\b|/s|MB|GB|min|h\b))|estimate .*|\d+ min \d+ s"
)


def command(verb: str) -> click.Command:
    found: click.Command = program
    for name in verb.split():
        assert isinstance(found, click.Group)
        found = found.get_command(click.Context(found), name)  # type: ignore[assignment]
    return found


def value(verb: str, option: click.Option) -> list[str]:
    """Words that give an option something else than its default."""
    flag, name, kind = option.opts[0], str(option.name), option.type
    default = str(getattr(TABLES.get(verb), name, option.default))
    if option.secondary_opts:
        return [option.secondary_opts[0] if default == "True" else flag]
    if option.is_flag:
        return [flag]
    if name == "adapters":
        return [flag, "on-masked" if verb == "fill" else "adapter"]
    if given := VALUES.get(name):
        return [flag, given]
    if isinstance(kind, click.Choice):
        return [flag, next(str(choice) for choice in kind.choices if str(choice) != default)]
    if name in PARAMETERS:
        low, high = max(PARAMETERS[name].low, 0.0), min(PARAMETERS[name].high, 5.0)
        return [flag, "3" if PARAMETERS[name].whole else f"{low + 0.3 * (high - low):g}"]
    if kind.name in ("integer", "integer range"):
        return [flag, "7"]
    return [flag, "0.3" if kind.name in ("float", "float range") else "word"]


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the models and files that are named above."""
    folder = tmp_path_factory.mktemp("desk")
    for seed, name in enumerate(("one", "two")):
        bigram.write(folder / name, bigram.random_table(seed))
    random_model(folder / "plain"), random_model(folder / "other", 1)
    random_model(folder / "masked", mask_token_id=286)
    rows = [{"prompt": f"tag {i % 11}", "completion": f"<{i}>"} for i in range(24)]
    choices = [{"context": f"Q{i}:", "choices": ["a", "bb"], "gold": i % 2, "of": i // 2} for i in range(12)]
    told = [{"text": f"words {i} and {i * i} more"} for i in range(12)]
    for name, listed in {
        "rows": rows, "other": rows[5:], "twice": [*rows, *rows[:6]], "t": choices, "held": choices[::-1][:8],
        "texts": told, "q": [{"prompt": f"say {i}", "answer": "x", "paraphrases": [f"tell {i}"]} for i in range(3)],
        "pairs": [{"prompt": f"p{i}", "chosen": f"y{i}", "rejected": f"n{i}"} for i in range(24)],
        "chats": [{"messages": [{"role": r, "content": f"{r} {i}"} for r in ("user", "assistant")]} for i in range(24)],
    }.items():  # fmt: skip
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in listed))
    (folder / "text.txt").write_text("".join(f"It was day {i * i}.\n\n" for i in range(80)))
    texts.words(folder)
    (folder / "line.txt").write_text("a line")
    (folder / "options.toml").write_text("seed = 5\n")
    (folder / "grid.toml").write_text("folds = 2\n[grid]\nrank = [1, 2]\n")
    (folder / "q.toml").write_text('data = "q.jsonl"\nmax_tokens = 12\n')
    (folder / "asked.toml").write_text('max_tokens = 12\ndata = "q.jsonl"\njudge = "{prompt}{first}{second}"\n')
    (folder / "synth.toml").write_text(
        'out = "made"\n[generate]\nmethod = "augment"\ndata = "rows.jsonl"\nrate = 0.5\n'
    )
    sizes = [(n, d) for n in (1e5, 3e5, 1e6) for d in (1e6, 4e6, 1.6e7)]
    losses = [f"{n},{d},{1.7 + 400 / n**0.34 + 410 / d**0.28 + 0.001 * (i % 3)}" for i, (n, d) in enumerate(sizes)]
    (folder / "runs.csv").write_text("\n".join(["parameters,tokens,loss", *losses, ""]))

    def call(*words: str) -> None:
        done = CliRunner().invoke(program, [word.replace("@", f"{folder}/") for word in words])
        assert done.exit_code == 0, (done.output, done.exception)

    for base, name in (("plain", "adapter"), ("plain", "fitted"), ("masked", "on-masked")):
        objective = ["--objective", "mdlm"] if base == "masked" else []
        trained = ["--steps", "2", "--length", "32", "--rate", "0.1", "--valid", "0", *objective]
        call("tune", "@rows.jsonl", "-M", f"@{base}", "--out", f"@{name}", *trained)
    call("posterior", "laplace", "@fitted", "--data", "@rows.jsonl")
    call("run", "hello", "-M", "@one", "-m", "4", "--save", "@saved.jsonl")
    return folder


class Desk:
    """Outcomes of calls, each made once in a copy of a folder."""

    def __init__(self, desk: Path, place: Path, likely: Likely, monkeypatch: pytest.MonkeyPatch) -> None:
        self.desk, self.place, self.likely, self.patch = desk, place, likely, monkeypatch
        self.numbers, self.known = count(), dict[tuple[str, ...], tuple[int, str, str, tuple[str, ...]]]()

    def outcome(self, verb: str, words: list[str]) -> tuple[int, str, str, tuple[str, ...]]:
        """Exit code, both streams, and the files that are there afterwards."""
        call = (*verb.split(), *words)
        if call not in self.known:
            at = shutil.copytree(self.desk, self.place / str(next(self.numbers)) / "desk", copy_function=os.link)
            before = {path: path.stat().st_mtime_ns for path in at.rglob("*")}
            self.patch.chdir(at)
            self.patch.setenv("LIKELY_HOME", str(at / "home"))
            self.patch.setenv("LIKELY_MODEL", str(at / "one"))
            self.patch.setenv("LIKELY_MODELS", str(at))
            code, *said = self.likely(*call, stdin=b"hello\n")
            here = (path for path in sorted(at.rglob("*")) if path.is_file())
            made = (path for path in here if path.stat().st_mtime_ns != before.get(path))
            told = (path for path in made if path.suffix not in (".db", ".lock") and path.name != "drawn.jsonl")
            files = tuple(f"{path.relative_to(at)} {digest(path, str(at.parent))}" for path in told)
            out, err = (CLOCKED.sub("-", text.replace(str(at.parent), "")) for text in said)
            self.known[call] = code, out, err, files
            shutil.rmtree(at.parent)
        return self.known[call]


def digest(path: Path, place: str) -> str:
    """Of what is in a file, wherever its folder is; the state of a training has its time too."""
    if path.suffix == ".safetensors" and "state" not in path.name:
        arrays = mx.load(str(path))
        assert isinstance(arrays, dict)
        data = b"".join(name.encode() + np.array(arrays[name].astype(mx.float32)).tobytes() for name in sorted(arrays))
    else:
        text = path.read_text(errors="replace").replace(place, "") if path.suffix in (".json", ".jsonl") else ""
        data = CLOCKED.sub("-", text).encode()
    return hashlib.blake2b(data, digest_size=8).hexdigest()


def faults(desk: Desk, verb: str) -> Iterator[str]:
    for option in command(verb).params:
        if (
            not isinstance(option, click.Option)
            or option.hidden
            or not {option.name, (verb, option.name)}.isdisjoint(UNSEEN)
        ):
            continue
        if verb != "run" and option.name in DETAILS:
            continue  # drawing is one thing for all verbs
        base = WAYS.get((verb, str(option.name)), CALLS[verb])
        if option.name == "adapters":
            base = [*base, "-M", "masked" if verb == "fill" else "plain"]
        if option.name in ("eos", "stop"):
            base = [*base, "--logit-bias", "66=99"]  # the letter c, and nothing else
        without, given = desk.outcome(verb, base), desk.outcome(verb, [*base, *value(verb, option)])
        said = " ".join([verb, *base, *value(verb, option)])
        if any(words in given[2] for words in REFUSED):
            continue
        if given[0]:
            if option.opts[0] not in given[2] and str(option.name).replace("_", "-") not in given[2]:
                yield f"{said}: ends with {given[0]} and does not name it: {given[2][-300:]}"
            elif given[0] == without[0] and given[2] == without[2]:
                yield f"{said}: fails as without it: {given[2][-300:]}"
        elif given == without:
            yield f"{said}: is ignored"


@pytest.mark.slow(20)
@pytest.mark.parametrize("verb", CALLS)
def test_no_option_is_ignored(
    verb: str, desk: Path, tmp_path: Path, likely: Likely, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Desk(desk, tmp_path, likely, monkeypatch)
    first = calls.outcome(verb, CALLS[verb])
    calls.known.clear()
    assert calls.outcome(verb, CALLS[verb]) == first and first[0] == 0, first
    assert not (found := list(faults(calls, verb))), "\n".join(found)
