"""Damaged and hostile files of every kind: used, or refused in one line, within bounds of time and memory.

A few hundred seeded cases of each kind run every day, 10,000 in `make soak`, which prints a line for each kind of
the table in benchmarks/log.
"""

import io
import json
import shutil
import sqlite3
from collections.abc import Callable
from contextlib import redirect_stdout, suppress
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import likely.models as models
from likely.app.cli.generate.replaying import show_replay
from likely.app.serve.watch import client
from likely.app.serve.watch.address import ServerAddress
from likely.app.store import export
from likely.app.store.store import Store
from likely.app.tui.base import presets
from likely.app.tui.base.sampling import Sampling
from likely.engine.base.errors import LikelyError
from likely.engine.decode.session import Session
from likely.engine.inside import steering
from likely.engine.measure.evaluate.tasks import task_files
from likely.engine.sampling.trace import file as trace_file
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.sampling.transforms import DRY, MinP, RepetitionPenalty, Temperature, TopP
from likely.engine.text.tokenizer import ChatTemplate, from_folder
from likely.engine.text.tokenizer.tokenizer import Tokenizer
from likely.engine.train.data import data
from likely.engine.train.pretrain import shape
from likely.engine.train.run import metrics, trainer
from likely.engine.weights.adapters import adapters, lora, peft
from likely.engine.weights.adapters.sites import choose, sites
from likely.engine.weights.sources.checkpoint import load
from likely.engine.weights.sources.fetch import caches
from likely.engine.weights.sources.model_info import describe
from likely.metal import mx
from tests.app.test_store import several, talk, use
from tests.engine import tiny
from tests.engine.sources.test_mlx_lm_folder import GLM
from tests.engine.trace.test_trace import made
from tests.engine.tune import tiny as tune_tiny
from tests.hostile import written
from tests.hostile.fuzzer import CLIPBOARD, Kind, Random, damage, fuzz, in_bytes, in_json
from tests.models.oracle import flat, reference

SMALL: dict[str, Any] = tiny.LLAMA | {
    "hidden_size": 16, "num_hidden_layers": 1, "intermediate_size": 32, "num_attention_heads": 2,
    "num_key_value_heads": 1, "head_dim": 8,
}  # fmt: skip
WEIGHTS = "model-00001-of-00001.safetensors"


def ask(path: Path) -> None:
    """Load a model, read a prompt, draw a token and score a text."""
    describe(path)
    checkpoint = load(path)
    session = Session(checkpoint, reload=False)
    session.score(checkpoint.tokenizer.encode("ab a", bos=True)[: session.context])


def make_gguf(folder: Path) -> None:
    tiny.write_gguf(folder / "m.gguf", "llama", SMALL, tiny.weights(SMALL))


def make_folder(folder: Path) -> None:
    arrays = {name: mx.array(array) for name, array in tiny.weights(SMALL).items()}
    tiny.write_folder(folder, SMALL, arrays)
    shutil.move(folder / "model.safetensors", folder / WEIGHTS)
    index = {"metadata": {}, "weight_map": dict.fromkeys(arrays, WEIGHTS)}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    (folder / "generation_config.json").write_text(json.dumps({"eos_token_id": [tiny.EOS]}))


def make_foreign(folder: Path) -> None:
    """Of an architecture that mlx-lm's class runs, with experts."""
    tiny.write_folder(folder, GLM, flat(reference(GLM).parameters()))


def only(*names: str) -> Callable[[Random, Path], None]:
    """Damage to these files of a folder alone."""

    def of(random: Random, case: Path) -> None:
        aside = case.with_name("chosen")
        aside.mkdir()
        name = names[int(random.integers(len(names)))]
        shutil.move(case / name, aside / name)
        damage(random, aside)
        if (aside / name).exists():
            shutil.move(aside / name, case / name)
        shutil.rmtree(aside)

    return of


ROPES = (
    {"rope_type": "linear", "factor": 2.0}, {"rope_type": "dynamic", "factor": 2.0},
    {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
     "original_max_position_embeddings": 64},
    {"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 64, "beta_fast": 32, "beta_slow": 1},
    {"rope_type": "longrope", "original_max_position_embeddings": 64, "short_factor": [1.0] * 4,
     "long_factor": [2.0] * 4},
)  # fmt: skip


def in_config(random: Random, case: Path) -> None:
    """Of the configuration as it is."""
    path = case / "config.json"
    path.write_bytes(in_json(random, json.loads(path.read_text())).encode(errors="surrogatepass"))


def damage_config(random: Random, case: Path) -> None:
    """Of configurations with all kinds of keys."""
    path = case / "config.json"
    config = json.loads(path.read_text())
    config |= {"rope_scaling": ROPES[int(random.integers(len(ROPES)))], "eos_token_id": 2, "tie_word_embeddings": False}
    if random.random() < 0.3:
        config |= {"sliding_window": 8, "layer_types": ["sliding_attention"], "attention_bias": False}
    if random.random() < 0.3:
        config |= {"quantization": {"group_size": 32, "bits": 4, "lm_head": {"group_size": 64, "bits": 8}}}
    if random.random() < 0.2:
        config["model_type"] = str(random.choice(["qwen3", "gemma3_text", "phi3", "mixtral", "gpt2", "mamba", "x"]))
    path.write_bytes(in_json(random, config).encode(errors="surrogatepass"))


def make_tokenizer(folder: Path) -> None:
    make_folder(folder)
    for name in ("config.json", WEIGHTS, "model.safetensors.index.json"):
        (folder / name).unlink()
    config = {
        "eos_token": {"content": tiny.PIECES[tiny.EOS], "special": True}, "bos_token": None, "add_bos_token": False,
        "chat_template": [{"name": "default", "template": TEMPLATES[0]}, {"name": "tool_use", "template": "x"}],
    }  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    (folder / "special_tokens_map.json").write_text(json.dumps({"unk_token": "ab"}))
    (folder / "additional_chat_templates").mkdir()
    (folder / "additional_chat_templates" / "rag.jinja").write_text("{{ messages }}")


def speak(path: Path) -> None:
    found: Tokenizer = from_folder(path)
    ids = found.encode("ab <|0|> né", special=True)
    found.decode([*ids, 0, 287, 5])
    found.fingerprint  # noqa: B018


TEMPLATES = (
    "{% for m in messages %}<|{{ m['role'] }}|>{{ m.content | trim }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}",
    "{%- set ns = namespace(s=3) -%}{% for i in range(6) %}{% set ns.s = ns.s * ns.s %}{% endfor %}{{ ns.s }}",
    "{% for a in messages %}{% for b in range(9) %}{{ a | tojson(indent=2) }}{{ 'x' | center(9) }}{% endfor %}"
    "{% endfor %}",
    "{% macro f(x, n) %}{{ x ~ x }}{% if n %}{{ f(x ~ x, n - 1) }}{% endif %}{% endmacro %}{{ f('a', 4) }}",
    "{{ '%30d' % 1 }}{{ '{:30}'.format('a') }}{{ lipsum(n=1) }}{{ [1] | slice(2) | list }}{{ 'a\\nb' | indent(3) }}",
    "{% if messages[0].role == 'tool' %}{{ raise_exception('\x1b]52;c;AAAA\x07 no') }}{% endif %}{{ bos_token }}",
)
PIECES = (
    "10**9", "3000000000", "[]", "range(99999)", "{% for i in range(9999) %}", "{% endfor %}", "|list", "|join", "|sum",
    "* 99999999", "** 99", "~", "messages", "'\x1b]52;c;AAAA\x07'", "|tojson", "[0]", ".__class__", "|attr('x')",
    "|map('upper')", "|batch(3)", "namespace()", "cycler(1)", "loop.index", "|replace('a', 'aaaaaaaa')",
    "|center(3000000000)", "{{", "}}", "%}", "(", ")",
)  # fmt: skip
GROWING = (
    "'a' * 99999999", "range(10**9) | list", "'%3000000000d' % 1", "'a' | center(3000000000)", "lipsum(n=9999)",
    "'{:3000000000}'.format('a')", "[1] | slice(10**9) | list", "messages | tojson(indent=3)", "2 ** 10 ** 6",
    "messages", "'\x1b[2J'", "bos_token",
)  # fmt: skip


def damage_template(random: Random, case: Path) -> None:
    """Pieces of programs cut out, doubled, put elsewhere, and those that grow without measure put in."""
    source = TEMPLATES[int(random.integers(len(TEMPLATES)))]
    for _ in range(random.integers(0, 3)):
        source += f"{{{{ {GROWING[int(random.integers(len(GROWING)))]} }}}}"
    for _ in range(random.integers(0, 3)):
        at, to = sorted(int(i) for i in random.integers(0, len(source), 2))
        piece = PIECES[int(random.integers(len(PIECES)))]
        source = (
            source[:at] + piece + source[at:], source[:at] + source[to:], source[:to] + source[at:],
            source[:at] + piece + source[to:],
        )[int(random.integers(4))]  # fmt: skip
    (case / "t.jinja").write_text(source)


def render(case: Path) -> None:
    path = case / "t.jinja"
    made = ChatTemplate(path.read_text(), {"bos_token": "<s>", "eos_token": "</s>"})
    made.render([{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}], generation_prompt=True)


ROWS: tuple[dict[str, Any], ...] = (
    {"text": "ab ab"}, {"prompt": "a", "completion": "b"}, {"instruction": "a", "input": "b", "output": "c"},
    {"messages": [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}], "tools": [{"name": "f"}]},
    {"conversations": [{"from": "human", "value": "a"}, {"from": "gpt", "value": "b"}]}, {"text": "ba"}, {"text": "b"},
)  # fmt: skip


def make_rows(folder: Path) -> None:
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    (folder / "valid.json").write_text(json.dumps([{"text": "ab"}, {"text": "a"}]))
    (folder / "test.csv").write_text('text,n\nab,1\n"a\nb",2\n')


def make_trace(folder: Path) -> None:
    """As it was before there was a checksum, which finds all damage."""
    trace_file.save([made(), made()], folder / "run.jsonl")
    rows = [json.loads(line) for line in (folder / "run.jsonl").read_text().splitlines()]
    lines = [json.dumps({key: value for key, value in row.items() if key != "sha256"}) for row in rows]
    (folder / "run.jsonl").write_text("\n".join(lines) + "\n")


def replayed(case: Path) -> None:
    recipe = SamplingConfig((RepetitionPenalty(1.1, 8), DRY(0.8), TopP(0.5), MinP(0.01), Temperature(0.7)))
    with redirect_stdout(io.StringIO()) as out:
        show_replay(case / "run.jsonl", recipe, as_json=False)
    print(out.getvalue())  # whole, or nothing


@cache
def numbers() -> dict[str, np.ndarray]:
    return tiny.weights(SMALL)


def small() -> Any:
    return models.build(dict(SMALL), {name: mx.array(array) for name, array in numbers().items()})


def make_adapter(folder: Path) -> None:
    model = small()
    made = lora.create(_sites(model), rank=2, scale=2.0)
    adapters.save(folder / "mlx", made, model, {"kind": "lora", "model": "m", "dropout": 0.0})
    peft.write(folder / "peft", made, model, name="m")
    steering.save(folder / "direction", steering.Direction(0, mx.ones(16), "m"))


def _sites(model: Any) -> Any:
    return choose(sites(model), -1, ("*_proj",), model.config.layers)


def put_on(case: Path) -> None:
    model = small()
    ids = mx.array([[1, 2, 3]])
    for name in ("mlx", "peft"):
        placed = adapters.build(model, adapters.read(case / name))
        if isinstance(placed, lora.Adapter):
            lora.attach(placed)
            mx.eval(model(ids))
            lora.detach(placed)
    found = steering.read(case / "direction")
    steering.detach(model, found.layer, steering.attach(model, found))


def training(folder: Path, steps: int, resume: bool = False) -> list[Any]:
    """A training of so many steps, with its metrics written."""
    options = tune_tiny.config(steps=steps, rank=2, modules=("q_proj", "down_proj"), batch=1)
    run = trainer.prepare(small(), options, tune_tiny.rows(4, 0), folder, resume=resume)
    written = metrics.Metrics(run)
    events = list(trainer.train(run))
    for event in events:
        if isinstance(event, trainer.Stepped):
            written.write(event)
    return events


def resumed(case: Path) -> None:
    metrics.read(case)
    training(case, 3, resume=True)


def make_database(folder: Path) -> None:
    several(folder / "s.db", 6)


CELLS = (b"\xff\xfe", CLIPBOARD, -1, 1 << 62, 1e308, None, "", "[" * 5000, "9" * 5000, b"", '{"a": [1]}', "{}")


def damage_database(random: Random, case: Path) -> None:
    """Pages overwritten, swapped, zeroed or cut off; or values of rows, by SQL."""
    path = case / "s.db"
    if random.random() < 0.5:
        data = bytearray(path.read_bytes())
        pages = len(data) // 4096
        for _ in range(random.integers(1, 4)):
            a, b = (4096 * int(page) for page in random.integers(0, pages, 2))
            match int(random.integers(0, 4)):
                case 0:
                    data[a : a + 4096] = random.bytes(4096)
                case 1:
                    data[a : a + 4096] = bytes(4096)
                case 2:
                    data[a : a + 4096] = data[b : b + 4096]
                case 3:
                    data[:] = in_bytes(random, bytes(data), 100)
                    break
        path.write_bytes(data)
        return
    db = sqlite3.connect(path, isolation_level=None)
    tables = [name for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
    for _ in range(random.integers(1, 4)):
        table = tables[int(random.integers(len(tables)))]
        with suppress(sqlite3.Error):  # a table that cannot be described any more, a cell that takes no such value
            columns = [row[1] for row in db.execute(f'PRAGMA table_info("{table}")')]
            column = columns[int(random.integers(len(columns)))]
            db.execute(f'UPDATE "{table}" SET "{column}" = ?', (CELLS[int(random.integers(len(CELLS)))],))
    db.close()


def used(case: Path) -> None:
    store = Store(case / "s.db")
    try:
        use(store)
    finally:
        store.close()


def make_import(folder: Path) -> None:
    export.write(talk(), "jsonl", folder / "talk.jsonl")


def imported(case: Path) -> None:
    found = export.read(case / "talk.jsonl", "new", 0.0)
    "".join(export.page(found)), "".join(export.markdown(found))


KINDS: tuple[tuple[Kind, int], ...] = (
    (Kind("gguf", make_gguf, lambda case: ask(case / "m.gguf"), damage), 300),
    (Kind("safetensors", make_folder, ask, only(WEIGHTS, "model.safetensors.index.json")), 300),
    (Kind("config", make_folder, ask, damage_config), 200),
    (Kind("foreign", make_foreign, ask, in_config), 200),
    (Kind("tokenizer", make_tokenizer, speak, damage), 200),
    (Kind("template", lambda folder: (folder / "t.jinja").write_text(TEMPLATES[0]), render, damage_template), 60),
    (Kind("rows", make_rows, data.read, damage), 300),
    (Kind("trace", make_trace, replayed, damage), 200),
    (Kind("adapter", make_adapter, put_on, damage), 200),
    (Kind("state", lambda folder: training(folder, 2), resumed, only("state.safetensors", "metrics.jsonl")), 200),
    (Kind("database", make_database, used, damage_database), 60),
    (Kind("import", make_import, imported, damage), 300),
    *written.KINDS,
)
DEAR = (
    "safetensors",
    "config",
    "foreign",
    "template",
    "adapter",
    "state",
    "database",
    "bodies",
    "canvas",
    "fit",
)  # in time


@pytest.mark.slow(3)
@pytest.mark.parametrize(
    ("kind", "count"),
    [pytest.param(*each, id=each[0].name, marks=pytest.mark.slow if each[0].name in DEAR else ()) for each in KINDS],
)
def test_a_seeded_few_hundred(kind: Kind, count: int, tmp_path: Path) -> None:
    found = fuzz(kind, tmp_path, range(count))
    assert not found.faults, f"{len(found.faults)} of {count}:\n" + "\n".join(found.faults[:5])
    assert found.outcomes["used"]  # the damage is some, and not all
    assert found.outcomes["refused"] or kind.name == "home"  # what cannot be read there is passed over


@pytest.mark.soak
@pytest.mark.parametrize("kind", [pytest.param(each[0], id=each[0].name) for each in KINDS])
def test_ten_thousand(kind: Kind, tmp_path: Path) -> None:
    found = fuzz(kind, tmp_path, range(1000, 11_000))
    print(found.line(kind.name))
    assert not found.faults, "\n".join(found.faults[:20])


def test_faults_that_were_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Files that ended in a traceback, took all time or were believed, before they were mended by their cause."""
    toml = tmp_path / "shape.toml"
    for text, line in (
        ("layers = 922337203685477580", "num_hidden_layers must be at most 10,000"),
        (f"width = {'9' * 400}", "at most 20 digits"),
        (f"width = {'9' * 19}", "at most 18 digits"),
        (f"further{'.x' * 3000} = 1", "nested deeper than 64"),
    ):
        toml.write_text(text)
        with pytest.raises(LikelyError, match=line):
            shape.counts(shape.read_shape(str(toml)), 300, 64)
    make_tokenizer(tmp_path / "t")
    program = json.loads((tmp_path / "t" / "tokenizer.json").read_text())
    program["model"]["continuing_subword_prefix"] = "nan"
    (tmp_path / "t" / "tokenizer.json").write_text(json.dumps(program))
    with pytest.raises(LikelyError, match="without the prefix 'nan'"):  # the library panics
        from_folder(tmp_path / "t")
    (tmp_path / "task.toml").write_text('data = "rows.jsonl"\ncontext = "a"\nchoices = [1]\n')
    with pytest.raises(LikelyError, match=r"choices must be a column or a template .* got \[1\]"):
        task_files.read(tmp_path / "task.toml")
    with pytest.raises(LikelyError, match="there is no file"):
        task_files.read(tmp_path / f"{'a' * 300}.jsonl")
    for stream in (b"data: " + b"[" * 50_000 + b"\n", b"data: [" * 50_000 + b"\n"):
        with pytest.raises(LikelyError, match=r"cannot be read|is not a server"):
            list(client.sighted(io.BytesIO(stream), ServerAddress("http", "127.0.0.1", 1, tmp_path)))
    saved = {"values": {"temp": 1.0}, "order": list(Sampling().names)}
    kept = {"new": saved | {"order": ["Unknown"]}, "odd": [], "mine": saved}
    (tmp_path / presets.FILE).write_text(json.dumps(kept))
    presets.keep(tmp_path, "more", Sampling())
    assert list(presets.own(tmp_path)) == ["mine", "more"]  # one that cannot be read is no reason to lose the others,
    assert json.loads((tmp_path / presets.FILE).read_text()).items() >= kept.items()  # nor is it lost itself
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".lmstudio").mkdir()
    (tmp_path / ".lmstudio" / "settings.json").write_text('{"downloadsFolder": "\\ud800"}')
    assert list(caches.in_folders()) == []


def test_a_corpus_with_a_token_that_there_is_not_is_refused(tmp_path: Path) -> None:
    """It would be read beyond the embedding's end."""
    written.make_corpus(tmp_path)
    path = tmp_path / "out" / "corpus" / "train.bin"
    ids = np.fromfile(path, "<u2")
    ids[7] = 60_000
    ids.tofile(path)
    with pytest.raises(LikelyError, match="it has token 60000 of 257"):
        written.reread(tmp_path)
