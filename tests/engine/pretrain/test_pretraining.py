"""Pretraining from a text to a folder that is a model: figures, resumption, refusals, and a known entropy reached."""

import math
import os
import signal
import subprocess
import sys
import time
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import likely.models as models
from likely.engine.base.errors import DataError, LikelyError, OutOfMemory, ParameterError
from likely.engine.decode.session import Session
from likely.engine.diffusion import infilling
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.sampling.trace.unmasking import Unmasking
from likely.engine.train.control import Completion, Ended, Saved, Stepped, Validated
from likely.engine.train.pretrain import parametrization
from likely.engine.train.pretrain.config import FILE, TOKENIZERS, PretrainConfig, configure
from likely.engine.train.pretrain.corpus import corpus
from likely.engine.train.pretrain.documents import SHORT, sources
from likely.engine.train.pretrain.pretraining import PretrainingPlan, pretrain
from likely.engine.train.pretrain.shape import NOT_HERE, ModelShape, config_of, counts, shape_of
from likely.engine.train.run.validation import drawn
from likely.engine.weights.adapters import full
from likely.engine.weights.sources.checkpoint import load
from likely.metal import mx
from likely.models.families import FAMILIES, registry
from tests import processes
from tests.engine.pretrain.texts import config, finish, markov, words
from tests.models.oracle import difference


def weights(folder: Path) -> dict[str, mx.array]:
    return mx.load(str(folder / "model.safetensors"))  # type: ignore[return-value]


def same(a: Path, b: Path) -> bool:
    mine, theirs = weights(a), weights(b)
    return set(mine) == set(theirs) and all(bool(mx.array_equal(mine[n], theirs[n])) for n in mine)


def held_out(run: PretrainConfig, folder: Path) -> float:
    """The mean loss of the model in a folder, loaded as every model is, on the held-out rows; each row alone."""
    model, losses = load(folder).model, []
    for row in drawn(list(corpus(run).rows("valid", run.context + 1)), run.eval_rows):
        logits = model(mx.array([row.ids[:-1]]))[0]
        logp = logits - mx.logsumexp(logits, axis=-1, keepdims=True)
        losses.append(mx.take_along_axis(logp, mx.array(row.ids[1:])[:, None], axis=-1)[:, 0])
    return -float(mx.mean(mx.concatenate(losses)))


def test_a_text_becomes_a_model_that_loads_and_measures_what_training_measured(tmp_path: Path) -> None:
    data = words(tmp_path)
    found, events = finish(config(data, tmp_path / "m", sample_tokens=4, sample="ae"))
    prepared = events[0]
    assert isinstance(prepared, PretrainingPlan)
    assert prepared.parameters == found.parameters == sum(a.size for a in weights(tmp_path / "m").values())
    assert prepared.parameters_without_embedding == found.parameters - 2 * 257 * prepared.shape.width
    steps = [e for e in events if isinstance(e, Stepped)]
    assert len(steps) == prepared.steps and found.tokens == steps[-1].tokens
    assert found.tokens == pytest.approx(prepared.tokens, rel=0.1)  # what a step holds differs a little
    assert all(e.noise_scale is None or e.noise_scale > 0 for e in steps) and steps[-1].noise_scale
    said = [e for e in events if isinstance(e, Completion)]
    assert len(said) == len([e for e in events if isinstance(e, Validated)]) and len(said[0].steps) == 4
    last = [e for e in events if isinstance(e, Validated)][-1]
    assert len(last.by_position) == 6  # a row's first target, its second, 2, 4, 8 and 16 more
    assert isinstance(events[-2], Ended) and found.reason == "done"

    assert held_out(config(data, tmp_path / "m"), tmp_path / "m") == pytest.approx(found.loss, abs=1e-4)
    assert found.loss is not None and found.bits_per_byte is not None  # a byte is a token here, but for the ends
    assert found.bits_per_byte == pytest.approx(found.loss / math.log(2), rel=0.05)
    best = [e for e in events if isinstance(e, Validated) and e.best][-1]
    assert (tmp_path / "m" / "best" / "model.safetensors").exists() and best.loss <= found.loss + 1e-9


def test_a_document_ends_with_the_end_and_a_part_of_one_does_not(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "ab"}\n{"text": "cd"}\n')
    (tmp_path / "b.txt").write_text("x" * 3 * SHORT)
    made = corpus(config(tmp_path, tmp_path / "m"))
    (end,) = made.tokenizer.eos
    found = []
    for part in ("train", "valid"):
        ids, lengths = np.fromfile(made.folder / f"{part}.bin", "<u2"), np.fromfile(made.folder / f"{part}.len", "<u4")
        for each in np.split(ids, np.cumsum(lengths)[:-1]):
            found += [b"".join(b"$" if i == end else made.tokenizer.piece(i) for i in each.tolist())]
    assert b"ab$" in found and b"cd$" in found
    assert sorted((each.count(b"x"), each[-1:]) for each in found if b"x" in each) == [(SHORT, b"x"), (2 * SHORT, b"$")]


@pytest.mark.slow
def test_a_run_goes_on_to_the_same_weights_bit_for_bit(tmp_path: Path) -> None:
    data = words(tmp_path)
    for optimiser in ("adamw", "muon"):
        whole, part = (config(data, tmp_path / f"{optimiser}{i}", optimiser=optimiser) for i in (0, 1))
        finish(whole)
        events = pretrain(part)
        for event in events:
            if isinstance(event, Saved) and event.step == 4:
                break
        events.close()
        again, seen = finish(part, resume=True)
        assert same(Path(whole.out), Path(part.out)) and again.reason == "done"
        assert [e.step for e in seen if isinstance(e, Stepped)] == [5, 6]
    done, seen = finish(part, resume=True)  # nothing is left
    assert done.loss == again.loss and not [e for e in seen if isinstance(e, Stepped)]
    with pytest.raises(DataError, match="holds a run already: --resume"):
        finish(part)
    for name, value, before in (("seed", 1, 0), ("tokens", 999, 768)):
        with pytest.raises(DataError, match=f"began with {name} = {before}, got {value}"):
            finish(config(data, Path(part.out), optimiser="muon", **{name: value}), resume=True)
    (tmp_path / "words.txt").write_text("other words\n" * 800)
    with pytest.raises(DataError, match="its text is not the one asked for"):
        finish(part, resume=True)


@pytest.mark.slow
def test_two_processes_with_half_of_each_batch_learn_what_one_does(tmp_path: Path) -> None:
    options = "--size 20k --tokenizer bytes --context 32 --batch 4 --tokens 1536 --sample-tokens 4 --eval-every 3"
    run = ["-c", "from likely.app.cli import main; main()", "pretrain", str(words(tmp_path)), *options.split()]
    (alone,) = processes.finish(processes.start(1, tmp_path, [*run, "--out", str(tmp_path / "alone")]))
    both = processes.finish(processes.start(2, tmp_path, [*run, "--out", str(tmp_path / "both")]))
    assert [code for code, _, _ in (alone, *both)] == [0, 0, 0], both
    assert both[1] == (0, "", "") and "done, 1,5" in both[0][2]  # rank 0 speaks for all
    mine, theirs = weights(tmp_path / "alone"), weights(tmp_path / "both")
    assert set(mine) == set(theirs) and max(float(mx.max(mx.abs(mine[n] - theirs[n]))) for n in mine) <= 1e-5
    assert float(mx.max(mx.abs(mine["lm_head.weight"]))) > 0.01  # it began at 0


KILLED = """
import sys
from pathlib import Path
from likely.engine.train.pretrain.pretraining import pretrain
from tests import processes
from tests.engine.pretrain.texts import config
for event in pretrain(config(Path(sys.argv[1]), Path(sys.argv[2]), save_every=1), resume=sys.argv[3] == "1"):
    print(type(event).__name__, flush=True)
    sys.stdin.readline()  # goes on when it is told to: a fast machine would be done before it is killed
"""


@pytest.mark.slow
def test_a_plateau_may_be_lengthened_before_it_falls(tmp_path: Path) -> None:
    data = words(tmp_path)
    long, short = (config(data, tmp_path / f"{n}", schedule="wsd", warmup=0.0, tokens=n) for n in (1280, 768))
    more = config(data, Path(short.out), schedule="wsd", warmup=0.0, tokens=1280)
    finish(long)
    events = pretrain(short)
    assert any(isinstance(event, Saved) and event.step == 4 for event in events)
    events.close()
    finish(more, resume=True)
    assert same(Path(long.out), Path(short.out))
    with pytest.raises(DataError, match="has taken 10 steps, and of 10 in all the rate falls from step 8 on"):
        finish(config(data, Path(short.out), schedule="wsd", warmup=0.0, tokens=2560), resume=True)


@pytest.mark.slow
def test_a_run_that_is_killed_goes_on_to_the_same_weights(tmp_path: Path) -> None:
    data, random = words(tmp_path), np.random.default_rng(0)
    whole, killed = config(data, tmp_path / "whole", save_every=1), tmp_path / "killed"
    finish(whole)
    kills = 0
    for _ in range(3):
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, str(data), str(killed), str(int((killed / FILE).exists()))],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert process.stdin is not None and process.stdout is not None
        for _ in range(random.integers(1, 6)):
            process.stdout.readline()
            process.stdin.write("\n")
            process.stdin.flush()
        time.sleep(float(random.uniform(0, 0.05)))
        process.send_signal(signal.SIGKILL)
        kills += process.wait() == -signal.SIGKILL
        process.stdin.close()
        process.stdout.close()
    assert kills == 3
    finish(config(data, killed, save_every=1), resume=(killed / FILE).exists())
    assert same(tmp_path / "whole", killed)


@pytest.mark.slow(3)
def test_the_entropy_of_a_chain_is_reached(tmp_path: Path) -> None:
    data, rate = markov(tmp_path, 60_000)
    run = config(data, tmp_path / "m", size="20k", tokenizer="characters", context=64, batch=4, accumulate=1,
                 tokens=100_000, eval_every=0, save_every=0, eval_rows=0)  # fmt: skip
    found, _ = finish(run)
    assert found.loss is not None and found.low is not None
    assert found.loss == pytest.approx(rate, rel=0.02) and found.low < rate * 1.02


def test_tokenizers_spell_every_text_and_say_what_they_cost(tmp_path: Path) -> None:
    data = words(tmp_path)
    odd = "née 漢字\x07 🙂\n\ttab  two"
    for kind in TOKENIZERS:
        c = config(data, tmp_path / kind, tokenizer=kind, **({"vocab": 300} if kind in ("bpe", "unigram") else {}))
        made = corpus(c)
        assert made.tokenizer.decode(made.tokenizer.encode(odd)) == odd, kind
        facts = made.facts
        assert facts.tokens == {"bpe": 300, "unigram": 300, "bytes": 257}.get(kind, facts.tokens)
        rows = made.rows("train", 33)
        spelled = b"".join(made.tokenizer.piece(int(t)) for t in rows.ids if not made.tokenizer.is_special(int(t)))
        assert len(spelled) == facts.train_bytes and facts.train_bytes + facts.valid_bytes == data.stat().st_size
        assert rows.targets == facts.train_tokens - len(np.unique(rows.document))  # all but each document's first
        if kind == "bytes":
            assert facts.unigram == pytest.approx(facts.unigram_of_bytes, rel=0.02)
        elif kind == "bpe":
            assert facts.unigram < 0.97 * facts.unigram_of_bytes
    shared = config(data, tmp_path / "else", corpus=str(tmp_path / "bpe" / "corpus"), tokenizer="bpe", vocab=300)
    assert corpus(shared).facts == corpus(config(data, tmp_path / "bpe", tokenizer="bpe", vocab=300)).facts
    copied = corpus(config(data, tmp_path / "copied", tokenizer=str(tmp_path / "bpe" / "corpus")))
    assert copied.tokenizer.fingerprint == corpus(shared).tokenizer.fingerprint


def test_every_family_has_a_shape_for_a_size() -> None:
    every = [name for name in FAMILIES if name not in NOT_HERE]
    assert len(every) == 14
    for family in every:
        shape = shape_of("1M", family, 1024, 128)
        assert counts(shape, 1024, 128)[0] == pytest.approx(1e6, rel=0.1), family
    plain = ModelShape("llama", layers=2, width=64, heads=2, mlp_width=160)
    inner = 2 * (4 * 64**2 + 3 * 64 * 160 + 2 * 64) + 64
    assert counts(plain, 300, 128) == (inner + 2 * 300 * 64, inner)


@pytest.mark.slow
def test_what_is_written_is_what_other_programs_read(tmp_path: Path) -> None:
    """The fault: no configuration said its norm's epsilon, and mlx-lm opened none of the folders."""
    tokens = mx.array([[3, 1, 4, 1, 5, 9]])
    for family in ("llama", "qwen3", "gemma2", "gpt2", "gpt_neox", "starcoder2", "granite", "olmo2", "phi3"):
        described = config_of(ModelShape(family, layers=2, width=32, heads=2), 48, 16)
        model = registry.blank(described)
        parametrization.start(model, parametrization.Parametrisation("standard", 0.5), seed=1)
        arrays = full.weights(model)
        spelled = registry.spelled(described, arrays.stored(arrays.parameters()))
        module = import_module(f"mlx_lm.models.{family}")
        theirs = module.Model(module.ModelArgs.from_dict(described))
        theirs.load_weights(list(spelled.items()))
        assert difference(model(tokens), theirs(tokens)) <= 5e-4, family  # their GELU is an approximation
        assert difference(models.build(described, dict(spelled))(tokens), model(tokens)) <= 1e-5, family


def test_two_pieces_are_never_both_set_aside(tmp_path: Path) -> None:
    """The fault: with --valid 0.5 both could be, and nothing was left for the tokenizer to be trained on."""
    (tmp_path / "two.jsonl").write_text('{"text": "hello"}\n{"text": "one"}\n')  # whose hashes are both below a half
    told: list[tuple[int, int]] = []
    facts = corpus(
        config(tmp_path / "two.jsonl", tmp_path / "m", valid=0.5), progress=lambda what, n, of: told.append((n, of))
    ).facts
    assert facts.train_bytes and facts.valid_bytes
    assert told[-2:] == [(1, 2), (2, 2)]


def test_a_folder_that_may_not_be_read_is_not_called_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(*_: Any) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.scandir", closed)
    with pytest.raises(DataError, match=r"cannot read .*: Permission denied"):
        sources(tmp_path)


def test_a_model_that_does_not_fit_is_refused_before_it_is_made(tmp_path: Path) -> None:
    run = config(words(tmp_path), tmp_path / "m", context=256, size=str(tmp_path / "huge.toml"))
    (tmp_path / "huge.toml").write_text("layers = 400\nwidth = 16384\nheads = 128\n")  # two thousand thousand million
    before = mx.get_active_memory()
    with pytest.raises(OutOfMemory, match=r"GB and .* GB are free: .*--context 128, or a smaller --size"):
        finish(run)
    assert not (tmp_path / "m" / FILE).exists() and mx.get_active_memory() - before < 2e7


def test_what_cannot_be_is_refused_in_one_line(tmp_path: Path) -> None:
    words(tmp_path)
    files = {
        "empty.txt": b"", "blank.txt": b" \n\n ", "zero.txt": b"ab\0cd", "latin.txt": b"caf\xe9" * 9,
        "short.txt": b"too short", "chat.jsonl": b'{"prompt": "a", "completion": "b"}\n',
        "half.jsonl": b'{"text": "ab"}\n{"text": "a\\ud800"}\n',
    }  # fmt: skip
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    (tmp_path / "none").mkdir()
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "config.json").write_text("{}")
    (tmp_path / "wide.toml").write_text('family = "llama"\nwidht = 64\n')
    (tmp_path / "odd.toml").write_text("width = 65\nheads = 2\n")
    refused: list[tuple[str, dict[str, Any], str]] = [
        ("empty.txt", {}, "there is no text in"), ("blank.txt", {}, "nothing but blanks"),
        ("zero.txt", {}, "is no text: byte 2 is zero"), ("latin.txt", {}, "must be UTF-8: .* byte 3"),
        ("short.txt", {}, "is too short"), ("chat.jsonl", {}, 'a row with "text" expected, got a prompt'),
        ("half.jsonl", {}, "half.jsonl.*2.*: half of a surrogate pair at character 1"),
        ("words.txt", {"tokenizer": "bpe", "vocab": 9}, "vocab must be 258 or more, got 9"),
        ("words.txt", {"corpus": str(tmp_path / "short.txt" / "x")}, "cannot make .*choose another --corpus"),
        ("none", {}, "has no text: expected files that end with .txt"), ("missing", {}, "there is no .*missing"),
        ("pipe", {}, "is a pipe or a device"),
        ("words.txt", {"batch": 999}, "fewer than one batch of 999 texts of 32"),
        ("words.txt", {"size": "1k"}, "no llama with 257 tokens has about 1k parameters: the nearest has"),
        ("words.txt", {"size": "big"}, "size must be parameters such as 300k"),
        ("words.txt", {"size": str(tmp_path / "wide.toml")}, "unknown option widht; did you mean width?"),
        ("words.txt", {"size": str(tmp_path / "odd.toml")}, "a width of 65 does not make 2 heads"),
        ("words.txt", {"family": "gpt2", "size": "100k"}, "muP wants a head of its own, and this gpt2 ties it"),
        ("words.txt", {"family": "mixtral"}, "family must be one of"),
        ("words.txt", {"tokenizer": "words"}, "tokenizer must be bpe, unigram, bytes, characters or a folder"),
        ("words.txt", {"out": str(tmp_path / "model")}, "holds another model"),
        ("words.txt", {"out": str(tmp_path / "short.txt")}, "--out takes a folder, and .*short.txt is a file"),
    ]  # fmt: skip
    for number, (name, values, line) in enumerate(refused):
        out = Path(values.pop("out", tmp_path / f"out{number}"))
        with pytest.raises(LikelyError, match=line):
            next(iter(pretrain(config(tmp_path / name, out, **values))))
        assert not (out / "model.safetensors").exists()
        read = any(word in line for word in ("fewer than one batch", "nearest has", "does not make"))
        assert read == (out / "corpus").exists()  # a text that is none, or was not read, leaves nothing
    for values, line in (
        ({"tokenizer": "bytes", "vocab": 300}, "vocab goes with tokenizer = bpe or unigram"),
        ({"parametrisation": "standard", "base_width": 32}, "base_width goes with parametrisation = mup"),
        ({"optimizer": "adamw"}, "did you mean optimiser"),
        ({"valid": 0.0}, "valid must be 0.001 to 0.5"),
    ):
        with pytest.raises(ParameterError, match=line):
            configure(values)


@pytest.mark.slow
def test_a_run_that_diverges_stops_and_keeps_the_best(tmp_path: Path) -> None:
    run = config(words(tmp_path), tmp_path / "m", rate=30.0, warmup=0.6, tokens=128 * 60, clip=0.0, eval_every=1,
                 schedule="constant", save_every=0, optimiser="muon")  # fmt: skip
    found, events = finish(run)
    assert found.reason in ("diverged", "nan") and found.loss is not None
    best = min(e.loss for e in events if isinstance(e, Validated))
    assert held_out(run, tmp_path / "m" / "best") == pytest.approx(best, abs=1e-3)


@pytest.mark.parametrize("further", [{"objective": "mdlm"}, {"objective": "block", "block_size": 4}], ids=str)
def test_masked_diffusion_is_resumed_to_the_same_weights_and_fills(further: dict[str, Any], tmp_path: Path) -> None:
    data = words(tmp_path)
    how = {**further, "corpus": str(tmp_path / "corpus")}
    whole, events = finish(config(data, tmp_path / "a", **how))
    assert whole.loss is not None and whole.reason == "done" and not any(isinstance(e, Completion) for e in events)
    broken = pretrain(config(data, tmp_path / "b", **how))
    assert any(isinstance(event, Saved) for event in broken)  # after two steps
    broken.close()
    assert finish(config(data, tmp_path / "b", **how), resume=True)[0].loss == whole.loss
    assert same(tmp_path / "a", tmp_path / "b")
    checkpoint = load(tmp_path / "a")
    found = checkpoint.model.config.diffusion
    assert found is not None and found.block == further.get("block_size", 0)
    assert found.mask == checkpoint.tokenizer.vocab_size == checkpoint.model.config.vocab_size - 1
    ids = infilling.canvas("ae[MASK:3]o", checkpoint.tokenizer, found.mask, 32)
    events_of = infilling.infill(Session(checkpoint), ids, Unmasking(), SamplingConfig())
    assert found.mask not in infilling.filled(ids, found.mask, events_of, checkpoint.tokenizer).as_dict()["ids"]
    with pytest.raises(ParameterError, match="sample_tokens goes with objective = autoregressive"):
        configure({"objective": "mdlm", "sample_tokens": 8})
