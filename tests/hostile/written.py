"""Kinds of files that people write and runs keep, for the fuzzer: plans, tables, tasks, options, journals, corpora,
posteriors, a home; and bodies of requests, lines of a server that is watched, canvases with holes.
"""

import io
import json
import os
from contextlib import chdir
from pathlib import Path
from typing import Any

import numpy as np

from likely.app.cli.evaluation.eval_samples import texts
from likely.app.results import task_sources
from likely.app.results.training_kind import KINDS as TRAININGS
from likely.app.serve.api import ollama, openai_fields, openai_requests, responses_api
from likely.app.serve.watch import client, lines
from likely.app.serve.watch.address import ServerAddress
from likely.app.tui.base import keys, presets
from likely.app.tui.base.sampling import Sampling
from likely.app.words.heat import sanitize_line
from likely.engine.base.errors import DataError
from likely.engine.base.files import preferences
from likely.engine.base.options import read_toml
from likely.engine.decode import prefix_cache
from likely.engine.decode.session import Session
from likely.engine.diffusion import infilling
from likely.engine.diffusion.denoiser import of_model
from likely.engine.inside import tuned_lens
from likely.engine.measure.estimate import search, trial
from likely.engine.measure.evaluate.tasks.tasks import Item
from likely.engine.measure.reason.thought import thought
from likely.engine.measure.scaling import plan, running
from likely.engine.measure.scaling.report import report
from likely.engine.measure.scaling.sweep import mapping, read_runs
from likely.engine.measure.synth import config as synth_config
from likely.engine.measure.synth import pipeline
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.sampling.trace.unmasking import Unmasking
from likely.engine.train.data import row_choices
from likely.engine.train.posterior import stored
from likely.engine.train.posterior.posterior import SwagPosterior
from likely.engine.train.pretrain import corpus, shape
from likely.engine.weights.adapters.config import Config
from likely.engine.weights.sources import array_file, store
from likely.engine.weights.sources.checkpoint import load
from likely.metal import mx
from tests.engine import tiny
from tests.engine.pretrain import texts as some_text
from tests.hostile.fuzzer import Kind, Random, damage, in_json, in_text

PLAN = """sizes = ["15k", "20k", 30000]
compute = [1e9, 3e9, "1e10"]
seeds = [0, 1]
ratios = [0.1, 1000.0]
out = "ladder"
[training]
data = "words.txt"
rate = 0.01
tokenizer = "bytes"
"""
RESULT = running.ScalingRunResult("15k-9000-0", 15_000, 9_000, 9_000, 9_000, 2.5, 2.4, 2.6, 12.0, 0, "here")


def write_runs(path: Path) -> None:
    """Forty-two runs of a known law."""
    rows = ["run,parameters,tokens,loss,compute,unique,embedding,seconds"]
    for n in (1e5, 3e5, 6e5, 1e6, 2e6, 4e6, 8e6):
        for d in (1e6, 4e6, 1e7, 3e7, 1e8, 3e8):
            loss = 1.7 + 400 / n**0.34 + 410 / d**0.28
            rows.append(f"r{len(rows)},{n:.0f},{d:.0f},{loss:.5f},{6 * n * d:.3e},{d / 2:.0f},{n / 10:.0f},3.5")
    path.write_text("\n".join(rows) + "\n")


def make_ladder(folder: Path) -> None:
    (folder / "plan.toml").write_text(PLAN)
    write_runs(folder / "runs.csv")
    (folder / running.RUNS).mkdir()
    (folder / running.RUNS / "15k-9000-0.json").write_text(json.dumps(running.asdict(RESULT)))


class Sizes(dict[str, int]):
    """Parameters of any size."""

    def __missing__(self, size: str) -> int:
        return max(1, round(plan.amount("sizes", size)))


def planned(case: Path) -> None:
    runs, left = plan.read_plan(case / "plan.toml").rungs(Sizes())
    print([each.name for each in runs], left)
    running.results(case)
    read_runs(case / "runs.csv", mapping(["seconds=seconds*2"]))


def fitted(case: Path) -> None:
    runs, left = read_runs(case / "runs.csv", {})
    if len(runs) < 30:  # whose coverage is simulated: seconds of honest work
        raise DataError("few")
    report(runs, left, (1e15,), count=4, seed=0)


def make_tasks(folder: Path) -> None:
    (folder / "pairs.jsonl").write_text('{"good": "a b", "bad": "b a"}\n{"good": "c", "bad": "d"}\n')
    (folder / "choices.csv").write_text('context,choices,gold,who\na,"[""x"", ""y""]",0,k\nb,"[""y""]",0,l\n')
    (folder / "task.toml").write_text(
        'name = "t"\ndata = "q.jsonl"\nprompt = "{question}"\nanswer = "{right}"\nshots = 1\nseconds = 2.0\n'
        'pattern = "(\\\\d+)"\nscorer = "exact"\nstop = ["."]\n'
    )
    (folder / "q.jsonl").write_text('{"question": "1+1", "right": ["2", "two"]}\n{"question": "2+2", "right": "4"}\n')
    (folder / "suite.toml").write_text('tasks = ["task.toml", "pairs.jsonl"]\n')
    (folder / "texts.csv").write_text("text,n\nhello,1\nthere,2\n")


def asked(case: Path) -> None:
    names = [str(case / name) for name in ("suite.toml", "choices.csv")]
    for each in task_sources.sources(names, shots=None, cluster=None):
        assert isinstance(each.source, task_sources.Task)
        for item in each.source.items():
            if not isinstance(item, Item):
                print(item.kind)
    texts(case / "texts.csv")


OPTIONS = {
    "tune.toml": 'data = "rows"\nrate = 0.001\nrank = 4\nsteps = 10\nmodules = ["q_proj", "v_proj"]\nseed = 3\n',
    "pretrain.toml": 'data = "words"\nsize = "20k"\ntokens = 5000\nwarmup = 0.1\ntensorboard = true\n',
    "grid.toml": "folds = 3\nseed = 1\n[grid]\nrank = [1, 2]\nrate = [0.001, 1e-4]\nlayers = [-1, 2]\n",
    "synth.toml": 'seed = 1\nout = "made"\n[generate]\nmethod = "grid"\nsampling = { temp = 0.9 }\n'
    'template = "Write of {topic}"\n[generate.grid]\ntopic = ["a", "b"]\n[split]\nvalid = 0.1\n',
    "thought.toml": 'before = "Q: "\nafter = "!"\nextract = "number"\n[[examples]]\nquestion = "1"\nanswer = "2"\n',
    "shape.toml": 'family = "qwen3"\nlayers = 2\nwidth = 32\nheads = 2\nkv_heads = 1\n[further]\nrope_theta = 5e3\n',
    "keys.toml": '"chat.redo" = "ctrl+y"\n[chat]\nundo = "ctrl+z"\n',
}  # fmt: skip


def make_options(folder: Path) -> None:
    for name, text in OPTIONS.items():
        (folder / name).write_text(text)


def configured(case: Path) -> None:
    tune, pretrain, _ = TRAININGS
    tune.configure(read_toml(case / "tune.toml"))
    pretrain.configure(read_toml(case / "pretrain.toml"))
    print(len(search.read_grid(case / "grid.toml").points))
    print(synth_config.read(case / "synth.toml").fingerprint)
    print(thought(str(case / "thought.toml")).ask("1?", chat=True))
    print(shape.counts(shape.read_shape(str(case / "shape.toml")), 300, 64))
    keys.load(case / "keys.toml", {"chat.redo": "ctrl+y", "chat.undo": "ctrl+z"})


HEAD = {"seed": 1, "rows": "abc"}


def made_of() -> synth_config.PipelineConfig:
    """A pipeline without a model: rows with words left out."""
    generate = {"method": "augment", "data": "rows.jsonl", "answers": 2, "rate": 0.5}
    return synth_config.configure({"out": "made", "generate": generate})


def make_journal(folder: Path) -> None:
    """Of trials and of made rows, with choices among them."""
    entry = {"name": {"rank": 1}, "rows": [[1.5, 4.0, 4, True], [0.5, 1, 2, False]], "steps": 3, "seconds": 1.5}
    (folder / trial.FILE).write_text(json.dumps(HEAD) + "\n" + json.dumps(entry | {"failed": ""}) + "\n")
    rows = [{"prompt": f"how much is {i} and {j} and so", "completion": str(i + j)} for i in range(3) for j in (1, 2)]
    (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    with chdir(folder):
        list(pipeline.run(made_of(), lambda name, adapters: None))  # type: ignore[arg-type,return-value]
    row_choices.choose(folder / "made" / row_choices.NAME, {"ab" * 16: True, "cd" * 16: False})


def gone_on(case: Path) -> None:
    def train(*of: object) -> Any:
        raise DataError("it is trained again")

    for done in trial.run(train, [trial.Trial({"rank": 1}, Config(), (), ())], case, HEAD):
        print(done.result.loss, done.result.accuracy, sanitize_line(done.result.failed))
    with chdir(case):  # a pipeline knows its data by name
        for told in pipeline.run(made_of(), train):
            print(told)


def make_corpus(folder: Path) -> None:
    config = some_text.config(some_text.words(folder, 2000), folder / "out")
    corpus.corpus(config)


def reread(case: Path) -> None:
    config = some_text.config(case / "words.txt", case / "out")
    found = corpus.corpus(config)
    for part in corpus.PARTS:
        rows = found.rows(part, 16)
        assert all(0 <= token < found.tokenizer.vocab_size for each in rows for token in each.ids)
    print(found.bytes_a_token)


SHAPES = {"a": (2, 3), "b": (4,)}


def make_posterior(folder: Path) -> None:
    random = np.random.default_rng(0)
    (folder / "swag").mkdir()
    parts = {n: stored.Swag(random.normal(size=s), np.ones(s), random.normal(size=(3, *s))) for n, s in SHAPES.items()}
    stored.write(folder / "swag", SwagPosterior(parts), stored.FitFacts("swag", "x", "y", rows=3, tokens=9))
    translators = (tuned_lens.Translator(mx.eye(4), mx.eye(4), mx.zeros(4)),)
    tuned_lens.save(folder / "lens.safetensors", tuned_lens.TunedLens(translators, (1.0,), (0.5,)))
    arrays = {"hidden": mx.zeros((3, 4)), "0.keys": mx.zeros((1, 3, 4)), "0.values": mx.zeros((1, 3, 4))}
    metadata = {
        "format": "likely prefix",
        "version": prefix_cache.VERSION,
        "model": "m",
        "adapter": "",
        "regime": "null",
    }
    array_file.write(folder / "prefix.safetensors", arrays, metadata | {"tokens": "[1, 2, 3]"})


def believed(case: Path) -> None:
    posterior, _ = stored.read(case / "swag", SHAPES, adapter="x", base="y")
    posterior.draw({name: np.zeros(size) for name, size in SHAPES.items()}, 0, 0)
    tuned_lens.read(case / "lens.safetensors")
    prefix_cache.read(case / "prefix.safetensors", [1, 2, 3], model="m")


def make_home(folder: Path) -> None:
    presets.keep(folder, "mine", Sampling())
    presets.keep(folder, "other", Sampling())
    (folder / "preferences.json").write_text(json.dumps({"model": "m", "theme": "dark", "folders": ["/nowhere"]}))
    (folder / ".lmstudio").mkdir()
    (folder / ".lmstudio" / "settings.json").write_text(json.dumps({"downloadsFolder": str(folder / "models")}))
    (folder / "models" / "m").mkdir(parents=True)
    record = dict.fromkeys(store.RECORD, "x") | {"parameters": 1, "context": 2, "nbytes": 3, "path": "m.gguf"}
    (folder / "models" / "m" / store.MANIFEST).write_text(json.dumps(record))
    (folder / "models" / "m" / "m.gguf").write_text("")


def lived_in(case: Path) -> None:
    before = dict(os.environ)
    os.environ |= {"HOME": str(case), "LIKELY_HOME": str(case), "HF_HUB_CACHE": str(case / "hub")}
    try:
        print(list(presets.own(case)), presets.choices(case, None), [preferences.chosen()])
        print(store.default(), [sanitize_line(each.name) for each in store.list()])
    finally:
        os.environ.clear()
        os.environ |= before


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}, "b": {"enum": ["x"]}}, "required": ["a"]}
TOOLS = [{"type": "function", "function": {"name": "f", "description": "d", "parameters": SCHEMA}}]
TURNS = [{"role": "system", "content": "s"}, {"role": "user", "content": [{"type": "text", "text": "hi"}]}]
DRAWING = {
    "model": "m", "temperature": 0.5, "top_p": 0.9, "max_tokens": 5, "n": 2, "seed": 3, "stop": ["x"], "stream": True,
    "logit_bias": {"5": 1.5}, "stream_options": {"include_usage": True},
    "likely": {"sampling": {"min_p": 0.1}, "order": "mlx-lm", "steps": True},
}  # fmt: skip
FORMAT = {"type": "json_schema", "json_schema": {"name": "n", "schema": SCHEMA, "strict": True}}
BODIES: dict[str, dict[str, Any]] = {
    "chat": DRAWING | {"messages": TURNS, "logprobs": True, "top_logprobs": 2, "response_format": FORMAT},
    "tools": {"messages": TURNS, "tools": TOOLS, "tool_choice": "required", "chat_template_kwargs": {"x": 1}},
    "text": DRAWING | {"prompt": [[1, 2], [3]], "echo": True, "best_of": 0, "likely": {"regex": "[ab]+"}},
    "embed": {"input": ["a", "b"], "encoding_format": "float", "likely": {"layer": 1}},
    "response": {"model": "m", "input": [{"type": "message", "role": "user", "content": "x"}], "instructions": "be",
                 "text": {"format": {"type": "json_schema", "schema": SCHEMA}}, "include": [responses_api.LOGPROBS]},
    "ollama": {"model": "m", "messages": TURNS[:1], "options": {"temperature": 0.1, "num_predict": 4, "stop": ["."]},
               "format": SCHEMA, "think": False, "keep_alive": "5m"},
    "generate": {"model": "m", "prompt": "p", "system": "s", "format": "json", "stream": False},
}  # fmt: skip


def make_bodies(folder: Path) -> None:
    for name, body in BODIES.items():
        (folder / f"{name}.json").write_text(json.dumps(body))


def damage_body(random: Random, case: Path) -> None:
    """One of them."""
    name = list(BODIES)[int(random.integers(len(BODIES)))]
    if random.random() < 0.2:
        damage(random, case)
    else:
        (case / f"{name}.json").write_bytes(in_json(random, BODIES[name]).encode(errors="surrogatepass"))


def served(case: Path) -> None:
    for name, path in ((name, case / f"{name}.json") for name in BODIES):
        data = path.read_bytes() if path.is_file() else b""
        match name:
            case "chat" | "tools":
                openai_requests.chat(openai_requests.read(data, openai_fields.CHAT))
            case "text":
                openai_requests.completions(openai_requests.read(data, openai_fields.COMPLETION))
            case "embed":
                openai_requests.embeddings(openai_requests.read(data, openai_fields.EMBEDDING))
            case "response":
                responses_api.read(data)
            case "ollama":
                ollama.chat(data)
            case _:
                ollama.generate(data)


WATCHED = [
    {"likely": "1", "form": lines.FORM},
    {"request": 1, "asked": [["user", "hi"]], "kind": "chat", "model": "m", "texts": 1, "late": False},
    {"request": 1, "model": "m", "opened": [1, 2], "context": 64, "pieces": ["YQ=="], "eos": [2]},
    {"request": 1, "event": "prefilled", "done": 2, "total": 2, "reused": 0},
    {"request": 1, "event": "pruned", "branch": 0},
    {"request": 1, "failed": "no"},
    {"request": 1, "closed": True},
]  # fmt: skip


def make_watched(folder: Path) -> None:
    (folder / "stream.jsonl").write_text("".join(json.dumps(line) + "\n" for line in WATCHED))


def watched(case: Path) -> None:
    path = case / "stream.jsonl"
    data = path.read_bytes() if path.is_file() else b""
    stream = io.BytesIO(b"".join(b"data: " + line + b"\n\n" for line in data.split(b"\n") if line))
    address = ServerAddress("http", "127.0.0.1", 1, case / "key")
    list(client.sighted(stream, address))


CANVAS = tiny.LLAMA | {
    "hidden_size": 16, "num_hidden_layers": 1, "intermediate_size": 32, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 8, "model_type": "llama", "mask_token_id": 3, "shifted_logits": False,
    "max_position_embeddings": 32,
}  # fmt: skip


def make_canvas(folder: Path) -> None:
    arrays = {name: mx.array(array) for name, array in tiny.weights(CANVAS).items()}
    tiny.write_folder(folder, CANVAS, arrays)
    (folder / "text.txt").write_text("ab [MASK:2] a \\[MASK:3] b[MASK:1]")


def damage_canvas(random: Random, case: Path) -> None:
    """The text, or the facts of the diffusion in the configuration."""
    if random.random() < 0.5:
        path = case / "text.txt"
        path.write_bytes(in_text(random, path.read_text()).encode(errors="surrogatepass"))
        return
    config = json.loads((case / "config.json").read_text())
    own = {key: config[key] for key in ("mask_token_id", "shifted_logits", "vocab_size", "max_position_embeddings")}
    written = in_json(random, own)
    if random.random() < 0.3:
        config["model_type"] = str(random.choice(["dream", "llada", "qwen2", "gpt2"]))
    rest = json.dumps({key: value for key, value in config.items() if key not in own})
    text = f"{rest[:-1]}, {written[1:]}" if written.startswith("{") and len(written) > 2 else written
    (case / "config.json").write_bytes(text.encode(errors="surrogatepass"))


def filled(case: Path) -> None:
    session = Session(load(case), reload=False)
    text = (case / "text.txt").read_text()
    mask = of_model(session.model, "m").mask
    ids = infilling.canvas(text, session.tokenizer, mask, session.context)
    events = list(infilling.infill(session, ids, Unmasking(steps=1), SamplingConfig()))
    infilling.filled(ids, mask, events, session.tokenizer).as_dict()


KINDS = (
    (Kind("ladder", make_ladder, planned, damage), 200),
    (Kind("fit", lambda folder: write_runs(folder / "runs.csv"), fitted, damage), 6),
    (Kind("tasks", make_tasks, asked, damage), 200),
    (Kind("options", make_options, configured, damage), 200),
    (Kind("journal", make_journal, gone_on, damage), 120),
    (Kind("corpus", make_corpus, reread, damage), 100),
    (Kind("posterior", make_posterior, believed, damage), 200),
    (Kind("home", make_home, lived_in, damage), 200),
    (Kind("bodies", make_bodies, served, damage_body), 200),
    (Kind("watched", make_watched, watched, damage), 200),
    (Kind("canvas", make_canvas, filled, damage_canvas), 100),
)
