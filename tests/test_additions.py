"""What an addition takes: a transform, a number on a token step and a metric, each a file or a function and one entry.

Each is added as a person would, and used from the command line to the files and back.
"""

import json
import math
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support import bigram

ROOT = Path(__file__).parent.parent
PREVIOUS = ROOT / "tests" / "data" / "previous"

NEAR = '''
from dataclasses import dataclass
from typing import ClassVar

from likely.engine.sampling.transforms import Parameter, Truncation


@dataclass(frozen=True, slots=True)
class Near(Truncation):
    """The tokens at most so many nats below the most likely one."""

    nats: float
    parameters: ClassVar = (Parameter("near", "near", "nats", 0.0, 9.0, 0.1, 0.0, 0.0, "nats below the largest"),)

    def keep(self, logits, state, key, xp):
        return logits >= xp.max(logits) - self.nats
'''
BOUNDS = """
    def decide(self, known, state, key):
        low, high = known.largest()
        return known.reaches((low - self.nats, high - self.nats))
"""
DRIVER = """
import sys
from pathlib import Path
from likely.engine.sampling import transforms
import near
transforms.TRANSFORMS += (near.Near,)  # its line in the table

from likely.app import cli

if sys.argv[1] == "look":  # as the screen does
    from likely.app.tui.chat import candidates
    from likely.app.tui.base.sampling import Sampling, typed
    from likely.engine.sampling.trace.file import load
    sampling = typed("near 1.5 temp 1", Sampling().preset("greedy"))
    step = load(Path(sys.argv[2]))[0].steps[0]
    names = candidates.Names(tuple(bytes([i]) for i in range(256)))
    outcome = candidates.replayed(step, sampling.recipe, (), (), names, 0)
    table = candidates.view(step, outcome, sampling.recipe, names, title="", live=False)
    sliders = [p.name for p in sampling.rows()]
    print(sliders.count("near"), sampling.order_name, *set(table.kept), table.cut_by, table.numbers, sep="|")
    sys.exit()
cli.main()
"""


def likely(folder: Path, *args: str, driver: str = DRIVER) -> tuple[int, str, str]:
    """Run `likely ARGS` with what the folder has in front of the program's own modules."""
    (folder / "driver.py").write_text(driver)
    path = {"PYTHONPATH": f"{folder}:{ROOT}", "PATH": "/usr/bin:/bin", "HOME": str(folder), "LIKELY_MODEL": "./law"}
    if not (folder / "law").exists():
        bigram.write(folder / "law", bigram.random_table(3))
    done = subprocess.run(
        [sys.executable, folder / "driver.py", *args], capture_output=True, text=True, cwd=folder, env=path
    )
    return done.returncode, done.stdout, done.stderr


@pytest.mark.slow
def test_a_transform_is_a_file_and_an_entry(tmp_path: Path) -> None:
    (tmp_path / "near.py").write_text(NEAR + BOUNDS)
    path = tmp_path / "run.jsonl"
    run = ("run", "hello", "--seed", "3", "--temp", "1", "--max-tokens", "20", "-q", "--json", "--save", str(path))
    code, out, err = likely(tmp_path, *run, "--near", "1.5")
    assert code == 0, err
    drawn = [json.loads(line) for line in out.splitlines() if "id" in json.loads(line)]
    assert len(drawn) == 20 and all(0 < row["kept"] < 100 for row in drawn)
    # the saved trace knows it, and replays as it was drawn, to a point
    assert '"transform": "Near", "nats": 1.5' in path.read_text()
    code, out, err = likely(tmp_path, "run", "--replay", str(path), "--temp", "1", "--near", "1.5", "--json")
    assert code == 0, err
    for row, was in zip(map(json.loads, out.splitlines()), drawn, strict=True):
        again = row["replayed"]
        assert again["kept"] == [was["kept"]] * 2 and again["exact"]
        low, high = again["p_after"]
        assert low - 1e-6 <= 2.718281828459045 ** was["logprob_after"] <= high + 1e-6
    code, out, err = likely(tmp_path, "run", "--replay", str(path), "--temp", "1", "--near", "0.5", "--json")
    fewer = [json.loads(line)["replayed"]["kept"][1] for line in out.splitlines()]
    assert all(new <= was["kept"] for new, was in zip(fewer, drawn, strict=True)) and sum(fewer) < 200, err
    # the screen has its slider and says what it removed
    code, out, err = likely(tmp_path, "look", str(path))
    sliders, order, kept, cut_by, _ = out.strip().split("|")
    assert (sliders, order, kept, cut_by) == ("1", "mlx-lm", str(drawn[0]["kept"]), "near"), err


@pytest.mark.slow
def test_a_transform_without_bounds_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "near.py").write_text(NEAR)
    path = tmp_path / "run.jsonl"
    run = ("run", "hello", "--seed", "3", "--temp", "1", "--max-tokens", "3", "-q", "--save", str(path))
    assert likely(tmp_path, *run, "--near", "1.5")[0] == 0
    code, out, err = likely(tmp_path, "run", "--replay", str(path), "--temp", "1", "--near", "1.5", "--json")
    assert (code, out) == (1, "") and "Near cannot be replayed without the model" in err
    assert len(err.strip().splitlines()) == 1
    code, out, err = likely(tmp_path, "look", str(path))
    assert out.strip().endswith("needs the model to be seen under this recipe"), err


# -- a number on a token step --------------------------------------------------------------------------------------

FIELD = "    elapsed_s: float = 0.0  # since the run began\n"
NUMBER = "    margin: Annotated[float | None, Json()] = None  # nats between the most likely token and the next\n"
OBSERVED = "        position=position,\n"
COMPUTED = "        margin=float(snapshot.logits[0] - snapshot.logits[1]) if row.possible > 1 else None,\n"
STORING = """
import sys
from pathlib import Path
from likely.app.store import export
from likely.app.store.store import Store
from likely.engine.chat.conversation import Fork, Node
from likely.engine.sampling.trace.file import load

store = Store(Path(sys.argv[1]))
old = store.load("c")
assert {step.margin for node in old.nodes.values() for step in node.steps} == {None}
assert {step.margin for step in load(Path(sys.argv[2]))[0].steps} == {None}
steps = load(Path(sys.argv[3]))[0].steps
assert all(step.margin > 0 for step in steps)
new = old.add(Node("n", Fork("d"), "assistant", steps=steps, finish="stop"))
store.save(new)
store.duplicate("c", "copy")
store.close()
for name in ("c", "copy"):
    again = Store(Path(sys.argv[1])).load(name)
    assert [step.margin for step in again.nodes["n"].steps] == [step.margin for step in steps]
    assert {step.margin for step in again.nodes["a"].steps} == {None}
export.write(new, "jsonl", Path("out.jsonl"))
read = export.read(Path("out.jsonl"), "x", 0.0)
assert [step.margin for step in read.nodes["n"].steps] == [step.margin for step in steps]
print("stored")
"""
RUN = "from likely.app import cli\ncli.main()\n"


def replaced(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert text.count(old) == 1, f"{file} has changed: say here where the line goes"
    file.write_text(text.replace(old, new))


def overlay(folder: Path, *copied: str) -> None:
    """The program in another folder, with its own copies of some files."""
    (folder / "tests").symlink_to(ROOT / "tests")
    for part in sorted({part for name in copied for part in Path(name).parents} - {Path()}):
        (folder / part).unlink(missing_ok=True)
        (folder / part).mkdir()
        for entry in (ROOT / part).iterdir():
            (folder / part / entry.name).symlink_to(entry)
    for name in copied:
        (folder / name).unlink()
        shutil.copy(ROOT / name, folder / name)


@pytest.mark.slow
def test_a_number_on_a_step_is_a_field_and_where_it_is_computed(tmp_path: Path) -> None:
    overlay(tmp_path, "likely/engine/sampling/trace/step.py", "likely/engine/sampling/trace/observe.py")
    replaced(tmp_path / "likely/engine/sampling/trace/step.py", FIELD, FIELD + NUMBER)
    replaced(tmp_path / "likely/engine/sampling/trace/observe.py", OBSERVED, OBSERVED + COMPUTED)
    run = ("run", "hello", "--seed", "3", "--max-tokens", "5", "-q", "--json", "--save", "run.jsonl")
    code, out, err = likely(tmp_path, *run, driver=RUN)
    assert code == 0, err
    shown = [row["margin"] for row in map(json.loads, out.splitlines()) if "id" in row]
    saved = [json.loads(line)["margin"] for line in (tmp_path / "run.jsonl").read_text().splitlines()[1:]]
    assert len(shown) == 5 and shown == saved and all(margin > 0 for margin in shown)
    # files of before have none of it, and a database gains its column
    shutil.copy(PREVIOUS / "sessions.db", tmp_path)
    files = ("sessions.db", str(PREVIOUS / "trace.jsonl"), "run.jsonl")
    assert likely(tmp_path, *files, driver=STORING)[:2] == (0, "stored\n")


# -- a measure -----------------------------------------------------------------------------------------------------

MEASURE = """
from likely.engine.base.statistics.measures import Measure


def hellinger(before, now, xp):
    return xp.sqrt(xp.maximum(1 - xp.sum(xp.exp((before + now) / 2), axis=-1), 0))


HELLINGER = Measure("hellinger", "share", "lower", "the Hellinger distance", ".6f", hellinger)
"""
DIFFER = """
from pathlib import Path
from likely.engine.base.statistics import measures
import hellinger
measures.MEASURES += (hellinger.HELLINGER,)  # its line in the table

from likely.app import cli
from likely.metal import mx
from tests.engine import tiny

for name, seed, sharp in (("a", 0, 4.0), ("b", 1, 4.0), ("flat", 0, 0.2)):
    if not Path(name).exists():
        arrays = {key: mx.array(value) for key, value in tiny.weights(tiny.LLAMA, seed).items()}
        arrays["lm_head.weight"] = arrays["lm_head.weight"] * sharp
        tiny.write_folder(Path(name), tiny.LLAMA, arrays)
cli.main()
"""


@pytest.mark.slow
def test_a_measure_is_a_function_and_an_entry(tmp_path: Path) -> None:
    """Shown by `diff`, and by `eval` in the direction that the entry says: a flat model is moved less by another
    context, which is better."""
    (tmp_path / "hellinger.py").write_text(MEASURE)
    asked = ("diff", "./a", "./b", "ab and so on", "--metric", "hellinger", "--metric", "tv")
    code, out, err = likely(tmp_path, *asked, "--json", driver=DIFFER)
    assert code == 0, err
    found = json.loads(out)
    for p in found["positions"]:
        assert 0 < p["hellinger"] ** 2 <= p["tv"] + 1e-6 <= math.sqrt(2) * p["hellinger"] + 2e-6
    mean = sum(p["hellinger"] for p in found["positions"]) / len(found["positions"])
    assert found["hellinger"] == pytest.approx(mean)
    assert f" · hellinger {mean:.6f}" in likely(tmp_path, *asked, driver=DIFFER)[1]
    code, _, err = likely(tmp_path, "diff", "./a", "./b", "ab", "--metric", "other", driver=DIFFER)
    assert code == 1 and "there is no metric other: there are kl (" in err and "hellinger (the Hell" in err
    rows = [json.dumps({"context": f"ab {i}", "changed": f"so {i} on"}) for i in range(12)]
    (tmp_path / "moved.jsonl").write_text("\n".join(rows))
    compared = ("eval", "moved.jsonl", "-M", "./a", "-M", "./flat", "--measure", "hellinger")
    code, out, err = likely(tmp_path, *compared, driver=DIFFER)
    assert code == 0 and "moved hellinger: ./flat against ./a -" in out and ": better" in out, (out, err)
    values = [line.split()[-5] for line in out.splitlines()[1:3]]
    assert all(len(value) == 8 for value in values) and 0 < float(values[1]) < float(values[0]) < 1


# -- an objective --------------------------------------------------------------------------------------------------

SIMPO = """
def simpo(pairs, beta, xp):
    mean = pairs.policy / pairs.tokens
    return xp.logaddexp(-beta * (mean[0] - mean[1]), xp.zeros_like(mean[0])), mean[0] - mean[1]
"""
OBJECTIVE_LINE = "OBJECTIVES: tuple[Objective, ...] = (\n"
OBJECTIVE = '    Objective("simpo", options=("beta",), of_pairs=simpo.simpo),\n'
TUNING = """
from pathlib import Path
import numpy as np
from likely.app import cli
from likely.metal import mx
from tests.engine import tiny

if not Path("tiny").exists():
    tiny.write_folder(Path("tiny"), tiny.LLAMA, {key: mx.array(a) for key, a in tiny.weights(tiny.LLAMA).items()})
cli.main()
"""


@pytest.mark.slow
def test_an_objective_is_a_function_and_an_entry(tmp_path: Path) -> None:
    """Of an untrained model its loss follows from -log p of a token of both answers: ORPO without odds, each way."""
    overlay(tmp_path, "likely/engine/base/objectives.py")
    (tmp_path / "simpo.py").write_text(SIMPO)
    file = tmp_path / "likely/engine/base/objectives.py"
    replaced(file, OBJECTIVE_LINE, OBJECTIVE_LINE + OBJECTIVE)
    replaced(file, "from dataclasses import dataclass\n", "from dataclasses import dataclass\n\nimport simpo\n")
    said = {"prompt": "ab", "chosen": " so on", "rejected": " not"}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(said) + "\n")
    (tmp_path / "turned.jsonl").write_text(json.dumps(said | {"chosen": " not", "rejected": " so on"}) + "\n")
    common = ("-M", "./tiny", "--steps", "1", "--valid", "0", "--batch", "1", "--json")

    def lost(rows: str, *how: str) -> float:
        code, out, err = likely(tmp_path, "tune", rows, *common, "--out", "out" + rows, *how, driver=TUNING)
        assert code == 0, err
        shutil.rmtree(tmp_path / f"out{rows}")
        return next(float(row["loss"]) for row in map(json.loads, out.splitlines()) if "loss" in row)

    chosen, rejected = (lost(rows, "--objective", "orpo", "--beta", "0") for rows in ("pairs.jsonl", "turned.jsonl"))
    how = ("--objective", "simpo", "--beta", "2")
    assert lost("pairs.jsonl", *how) == pytest.approx(math.log1p(math.exp(-2 * (rejected - chosen))), rel=1e-4)
    how = (*common, *how)
    code, _, err = likely(tmp_path, "tune", "pairs.jsonl", *how, "--kl", "0.1", driver=TUNING)
    assert code == 1 and "kl goes with objective = sft" in err
    (tmp_path / "text.jsonl").write_text('{"text": "ab so on and on"}\n' * 4)
    code, _, err = likely(tmp_path, "tune", "text.jsonl", *how, driver=TUNING)
    assert code == 1 and "does not fit these rows" in err


# -- a family of models --------------------------------------------------------------------------------------------

PARROT = """
'''Parrot: Llama with q, k and v in one matrix, head by head, and names of its own.'''

from likely.metal import mx
from likely.models.configuration.keys import Keys
from likely.models.configuration.config import ModelConfig
from likely.models.families import llama
from likely.models.configuration.rope import read_rope

TOP = {"embed": "perch.words", "layer": "perch.wings.{}", "norm": "perch.norm", "head": "beak"}
NAMES = {
    "attn_norm": "calm", "qkv": "hear.all", "o": "hear.out",
    "mlp_norm": "calmer", "gate": "say.gate", "up": "say.up", "down": "say.down",
}
BY_HEAD = ("qkv",)


def configure(keys: Keys, model_type: str) -> ModelConfig:
    fields = llama.common(keys, model_type, eps=keys.number("rms_norm_eps", 1e-5))
    layers, size = fields["layers"], fields["head_size"]
    return ModelConfig(
        **fields, windows=(0,) * layers, ropes=(read_rope(keys, size, fields["context"]),) * layers,
        scale=size**-0.5, tied=keys.flag("tie_word_embeddings", False),
    )


def _turned(array: mx.array, config: ModelConfig, *order: int) -> mx.array:
    return array.reshape(*order, config.head_size, -1).swapaxes(0, 1).reshape(array.shape)


def arrange(name: str, array: mx.array, config: ModelConfig) -> mx.array:
    return _turned(array, config, 3, config.heads) if ".hear.all." in name else array


def prepare(weights: dict[str, mx.array], config: ModelConfig) -> None:
    for name, array in weights.items():
        if ".hear.all." in name:
            weights[name] = _turned(array, config, config.heads, 3)
"""
FAMILY_LINE = '    "phi3": "phi3",\n'
USE = """
import json, sys
from pathlib import Path
from likely import models
from likely.engine.weights.quantize.plan import Settings
from likely.engine.weights.quantize.run import quantize
from likely.engine.weights.sources.checkpoint import load
from likely.engine.weights.sources.model_info import describe
from likely.engine.weights.adapters import adapters, lora, sites
from likely.engine.weights.write import fuse
from likely.metal import mx
from likely.models.parallel.shard import share
from tests.engine import tiny
from tests.models.oracle import difference
from tests.models.shared import taken

config = tiny.LLAMA | {"num_key_value_heads": 4}
llama = {name: mx.array(a) for name, a in tiny.weights(config).items()}
ours = {"beak.weight": llama["lm_head.weight"], "perch.words.weight": llama["model.embed_tokens.weight"]}
ours["perch.norm.weight"] = llama["model.norm.weight"]
names = {"calm": "input_layernorm", "calmer": "post_attention_layernorm", "hear.out": "self_attn.o_proj"}
names |= {f"say.{n}": f"mlp.{n}_proj" for n in ("gate", "up", "down")}
for i in range(2):
    at, theirs = f"perch.wings.{i}", f"model.layers.{i}"
    ours |= {f"{at}.{a}.weight": llama[f"{theirs}.{b}.weight"] for a, b in names.items()}
    heads = [llama[f"{theirs}.self_attn.{n}_proj.weight"].reshape(4, 1, 16, 64) for n in "qkv"]
    ours[f"{at}.hear.all.weight"] = mx.concatenate(heads, axis=1).reshape(192, 64)
said = config | {"model_type": "parrot"}
folder = tiny.write_folder(Path("model"), said, ours)
x = mx.array([[1, 2, 3, 4, 5, 6]])
want = models.build(config, dict(llama))(x)

# load
checkpoint = load("model")
model = checkpoint.model
assert difference(model(x), want) < 1e-5
# the parts are the checkpoint's tensors
assert set(model.arrays) == set(ours)
# an adapter: on its sites, written and read under its names, merged
chosen = sites.choose(sites.sites(model), -1, ["hear.*", "say.up"], 2)
assert {site.name for site in chosen} == {"hear.all", "hear.out", "say.up"}
adapter = lora.create(chosen, rank=2, scale=2.0)
adapter.set({n: mx.random.normal(p.shape) * 0.1 for n, p in adapter.parameters().items()})
adapters.save(Path("adapter"), adapter, model, {"model": "model", "kind": "lora"})
read = adapters.build(model, adapters.read(Path("adapter")))
lora.attach(read)
attached = model(x)
assert difference(attached, want) > 1e-2
lora.merge(model, read)
assert difference(model(x), attached) < 1e-5
# and written again as a checkpoint
fuse.write(checkpoint, Path("fused"))
# quantised, and that read again
report = quantize(describe(folder), Path("packed"), Settings(bits=8, group_size=32))
assert report.kl < 0.01 and report.nbytes < 0.5 * report.nbytes_before
assert difference(load("packed").model(x), want) < 0.05
# shared between two ranks: each has its heads and hidden units, and the halves of a layer add up
parts = [share(said, ours, "tensor", rank, 2) for rank in (0, 1)]
halves = [models.build(said, taken(part, ours), share=part) for part in parts]
whole = models.build(said, dict(ours))
def half(m):
    h, step, _, _ = m._begin(x, None)
    return m.blocks[0].out(m.blocks[0].attend(m.blocks[0].attn_norm(h), step, None, None))
assert difference(half(halves[0]) + half(halves[1]), half(whole)) < 1e-5
later = share(said, ours, "pipeline", 1, 2)
assert set(taken(later, ours)) >= {"perch.wings.0.hear.all.weight", "beak.weight"}
assert "perch.words.weight" not in taken(later, ours)
print("used")
"""


@pytest.mark.slow
def test_a_family_is_a_file_and_an_entry(tmp_path: Path) -> None:
    """Loaded, adapted, merged, written, quantised, shared, and drawn from."""
    overlay(tmp_path, "likely/models/families/__init__.py")
    replaced(tmp_path / "likely/models/families/__init__.py", FAMILY_LINE, '    "parrot": "parrot",\n' + FAMILY_LINE)
    (tmp_path / "likely/models/families/parrot.py").write_text(PARROT)
    code, out, err = likely(tmp_path, driver=USE)
    assert (code, out) == (0, "used\n"), err
    run = ("run", "--raw", "ab ab", "-M", "model", "--seed", "3", "--max-tokens", "4", "-q", "--json")
    code, out, err = likely(tmp_path, *run, driver=RUN)
    assert code == 0, err
    assert 1 <= len([row for row in map(json.loads, out.splitlines()) if "id" in row]) <= 4
