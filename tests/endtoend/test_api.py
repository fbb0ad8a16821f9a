"""`import likely`: fifteen names, each against the verbs, numpy, or what a definition says."""

import json
import math
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from itertools import combinations
from pathlib import Path
from threading import Thread
from typing import Any

import numpy as np
import pyarrow
import pytest
from click.testing import CliRunner
from IPython.core.formatters import HTMLFormatter

import likely
from likely.app.cli import likely as verbs
from likely.engine.decode.sampled.sample import Sample
from likely.engine.sampling.presets import PARAMETERS
from tests.serve.served import write_model

ABOUT = "abab"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("api") / "tiny<b>")


@pytest.fixture(scope="module")
def model(folder: Path) -> likely.Model:
    return likely.load(str(folder))


def shown(value: Any) -> str:
    """The page that a notebook makes of a value."""
    return str(HTMLFormatter()(value))


def said(*words: str) -> list[Any]:
    """The objects that a verb prints."""
    out = CliRunner().invoke(verbs, [*words, "--json"], catch_exceptions=False)
    assert out.exit_code == 0, out.output
    return [json.loads(line) for line in out.stdout.splitlines()]


def test_a_name_is_loaded_when_it_is_asked_for_and_mlx_with_a_model() -> None:
    code = """
import sys, likely
assert len(likely.__all__) == 15 and set(likely.__all__) <= set(dir(likely))
assert not [name for name in sys.modules if name.startswith("likely.")]
for name in likely.__all__: getattr(likely, name)
print([name for name in sys.modules if name.split(".")[0] in ("mlx", "textual", "click")])
likely.models_of
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout == "[]\n" and "AttributeError: module 'likely' has no attribute 'models_of'" in done.stderr


def test_a_distribution_is_the_whole_vocabulary(model: likely.Model, folder: Path) -> None:
    d, other = model.next(ABOUT), model.next("b")
    logp, q = np.asarray(d), np.asarray(other, np.float64)
    assert logp.dtype == np.float32 and len(d) == len(logp) and math.isclose(np.exp(logp).sum(), 1, rel_tol=1e-5)
    explained = said("explain", ABOUT, "-M", str(folder), "-c", "a")[0]
    assert d["a"] == pytest.approx(explained["continuations"][0]["logprob"], abs=1e-5)
    p = logp.astype(np.float64)
    a, b = (np.exp(x) / np.exp(x).sum() for x in (p, q))
    assert d.kl(other) == pytest.approx((a * np.log(a / b)).sum(), rel=1e-6)
    assert d.entropy == pytest.approx(-(np.exp(p) * p).sum(), rel=1e-6)
    top = d.top(3)
    assert list(top["id"]) == list(np.argsort(-logp, kind="stable")[:3]) and d.rank(int(top["id"][2])) == 3
    assert d.p(int(top["id"][0])) == pytest.approx(math.exp(logp.max()))
    for wrong in ("abab", "", -1, len(d)):
        with pytest.raises(likely.LikelyError):
            d[wrong]


def test_sampling_is_an_operator_on_it(model: likely.Model) -> None:
    d = model.next(ABOUT)
    p = np.exp(np.asarray(d, np.float64))
    order = np.argsort(-p, kind="stable")
    few = order[: int(np.searchsorted(np.cumsum(p[order]), 0.5)) + 1]  # the least set with half of the mass
    expected = np.zeros_like(p)
    expected[few] = p[few] ** 2 / (p[few] ** 2).sum()  # top-p, then a temperature of one half
    drawn = d.under(likely.Sampling(temp=0.5, top_p=0.5))
    assert np.exp(np.asarray(drawn)) == pytest.approx(expected, abs=1e-6)
    assert drawn.cut is not None and sum(drawn.cut["removed"]) == len(p) - len(few)
    assert sum(drawn.cut["mass"]) == pytest.approx(1 - p[few].sum(), abs=1e-6)
    assert int(np.argmax(d)) == d.under(likely.Sampling("greedy")).sample(1)
    balanced = d.under(likely.Sampling("balanced"))
    assert [model.generate(ABOUT, seed=s, max_tokens=1).ids[0] for s in range(8)] == [*map(balanced.sample, range(8))]
    with pytest.raises(likely.LikelyError, match="top-p must be in"):
        likely.Sampling(top_p=2)
    with pytest.raises(likely.LikelyError, match="no preset 'hot': one of greedy"):
        likely.Sampling("hot")


FIELDS = {
    "repetition_penalty": 1.7, "repetition_context_size": 3, "presence_penalty": 0.9, "presence_context_size": 2,
    "frequency_penalty": -0.7, "frequency_context_size": 4, "dry_multiplier": 0.8, "dry_base": 1.4,
    "dry_allowed_length": 1, "dry_penalty_last_n": 9,
    "temp": 0.6, "dynatemp_range": 0.4, "dynatemp_exponent": 2.0, "top_k": 9, "top_p": 0.7,
    "min_p": 0.3, "min_tokens_to_keep": 4, "typical_p": 0.6, "top_n_sigma": 0.9, "xtc_probability": 0.5,
    "xtc_threshold": 0.02, "mirostat_tau": 3.0, "mirostat_eta": 0.5,
}  # fmt: skip


@pytest.mark.slow(1)
def test_what_is_drawn_from_is_what_generate_draws_from(model: likely.Model) -> None:
    """Every field of `Sampling`, alone and with each other one: the token of each seed, and its log-probability."""
    assert FIELDS.keys() == set(PARAMETERS)
    ids = model.encode("abab aab abab a")
    d = model.next(ids)
    pairs = [*combinations(FIELDS, 2), *((name,) for name in FIELDS), ()]
    for seed, names in enumerate(pairs):
        sampling = likely.Sampling(**{name: FIELDS[name] for name in names}, bias={3: 1.5} if seed % 3 else None)
        under = d.under(sampling, seed)
        (step,) = model.generate(ids, sampling=sampling, seed=seed, max_tokens=1)
        assert under.sample(seed) == step.token, sampling
        assert under[step.token] == pytest.approx(step.logprob_after, abs=2e-5), sampling
        assert under.under(likely.Sampling()).sample(seed) == step.token, "the model's own law changes nothing"


def test_random_transforms_go_by_the_place_of_the_token(model: likely.Model) -> None:
    """XTC flips its coin for each token by seed and place: after prompts of each length as `generate` does it."""
    sampling = likely.Sampling(xtc_probability=0.5, xtc_threshold=0)
    coins = []
    for length in range(1, 9):
        ids = model.encode("abab aab abab a")[:length]
        d = model.next(ids)
        for seed in range(4):
            (step,) = model.generate(ids, sampling=sampling, seed=seed, max_tokens=1)
            under = d.under(sampling, seed)
            assert under.cut is not None and len(d) - sum(under.cut["removed"]) == step.kept
            coins.append(step.kept < len(d))
    assert 0 < sum(coins) < len(coins)


def test_a_penalty_acts_on_raw_logits(model: likely.Model) -> None:
    """Keskar et al. 2019, section 4.1, on the logits that the model gives, in float64."""
    ids = model.encode("abab a")
    z = np.asarray(model.session.logits_after(ids), np.float64)
    seen = sorted(set(ids))
    assert (z[seen] > 0).any(), "a positive logit becomes less likely, be its log-probability negative or not"
    z[seen] = np.where(z[seen] < 0, z[seen] * 1.7, z[seen] / 1.7)
    under = model.next(ids).under(likely.Sampling(repetition_penalty=1.7))
    assert np.exp(np.asarray(under)) == pytest.approx(np.exp(z) / np.exp(z).sum(), abs=1e-6)


def test_an_answer_is_the_run_of_the_verb(model: likely.Model, folder: Path, tmp_path: Path) -> None:
    trace = model.generate([{"role": "user", "content": "ab"}], seed=5, max_tokens=12)
    *tokens, end = said("run", "ab", "-M", str(folder), "--seed", "5", "-m", "12")
    assert [token["id"] for token in tokens] == list(trace.ids) and end["finish"] == trace.finish
    assert trace.logprob == pytest.approx(sum(token["logprob"] for token in tokens), abs=1e-4)
    assert [step.token for step in model.stream(trace.prompt, seed=5, max_tokens=12)] == list(trace.ids)
    trace.save(tmp_path / "run.jsonl")
    again = likely.Trace.load(tmp_path / "run.jsonl")
    assert again.ids == trace.ids and again.text == trace.text and again.seed == 5
    drawn = again.under(likely.Sampling("balanced"))
    assert drawn["p_low"] == pytest.approx([math.exp(step.logprob_after or 0) for step in trace], abs=1e-3)
    beams = model.generate(ABOUT, n=2, strategy="beam 3", max_tokens=3)
    assert len(beams) == 2 and beams[0].logprob >= beams[1].logprob
    assert pyarrow.table(trace).column("id").to_pylist() == list(trace.ids) == list(trace.table()["id"])


def test_a_given_text_is_read(model: likely.Model, folder: Path) -> None:
    trace = model.score(ABOUT)
    explained = said("explain", ABOUT, "-M", str(folder))[0]
    assert trace.perplexity == pytest.approx(explained["perplexity"], rel=1e-5)
    assert [step.logprob for step in trace] == pytest.approx([t["logprob"] for t in explained["tokens"]], abs=1e-5)


def test_a_conversation_goes_on_and_another_way(model: likely.Model, folder: Path) -> None:
    chat = model.chat("S")
    first = chat.send("ab", seed=3, max_tokens=6)
    other = chat.branch(2, "b", seed=3, max_tokens=4)
    assert first.text == chat.messages[1]["content"] and len(chat.messages) == len(other.messages) == 2
    begun = model.tokenizer.decode(first.ids[:2]) + "b"
    assert other.messages[1]["content"] == begun + other.answers[-1].text
    assert other.answers[-1].prompt == (*first.prompt, *first.ids[:2], *model.encode("b")[-1:])
    with pytest.raises(likely.LikelyError, match="has the places 0 to 5, got 6"):
        chat.branch(6, "a")
    with pytest.raises(likely.LikelyError):
        chat.send("too long" * 2000)
    assert len(chat.messages) == 2


class Pressed(Sample):
    """Plain sampling by somebody who presses ctrl+c while the third token is drawn."""

    def steps(self, *args: Any, **limits: Any) -> Iterator[Any]:
        drawn = super().steps(*args, **limits)
        for count in range(500):
            if count == 2:
                signal.raise_signal(signal.SIGINT)
            if (yield next(drawn)):
                return


def test_ctrl_c_keeps_the_trace(model: likely.Model) -> None:
    trace = model.generate(ABOUT, seed=1, max_tokens=500, strategy=Pressed())
    assert trace.finish == "cancelled" and len(trace) == 3
    with pytest.raises(KeyboardInterrupt):
        os.kill(os.getpid(), signal.SIGINT)


def test_a_model_belongs_to_its_thread(model: likely.Model) -> None:
    raised: list[Exception] = []

    def other() -> None:
        try:
            model.next(ABOUT)
        except likely.LikelyError as error:
            raised.append(error)

    thread = Thread(target=other)
    thread.start()
    thread.join()
    assert "belongs to the thread that loaded it" in str(raised[0])


def test_two_models_and_the_inside_of_one(model: likely.Model, folder: Path, tmp_path: Path) -> None:
    second = likely.load(str(write_model(tmp_path / "other", seed=1)))
    compared = likely.compare(model, second, ABOUT)
    for i, row in enumerate(compared.table()):
        before, now = (np.asarray(m.next(model.encode(ABOUT)[: i + 1]), np.float64) for m in (model, second))
        assert row["kl"] == pytest.approx((np.exp(now) * (now - before)).sum(), rel=1e-4)
    inside = model.inside(ABOUT)
    lens = inside.lens()
    assert np.asarray(lens).shape == (inside.layers + 1, len(inside.ids))
    assert inside.text(int(lens.lens.top[-1, -1])) == model.next(ABOUT).top(1)["token"][0]
    weights = inside.attention(1)
    assert weights.shape[0] == inside.heads and np.allclose(weights.sum(-1), 1, atol=1e-5)
    assert (inside.attention(1, 0) == weights[0]).all()
    for wrong in (lambda: inside.attention(9), lambda: inside.ablate(0, 99), lambda: model.inside([])):
        with pytest.raises(likely.LikelyError):
            wrong()


def test_activations_are_read_and_replaced_by_name(model: likely.Model) -> None:
    ids = model.encode("ab ba")
    here, there = model.inside(ids), model.inside(ids[::-1])
    read = here.activations()
    assert list(read) == here.names and sum(x.nbytes for x in read.values()) == here.nbytes()
    for elsewhere, ours in (
        ("hook_embed", "embedding"),
        ("blocks.1.hook_resid_pre", "layers.0.residual"),
        ("blocks.1.attn.hook_z", "layers.1.heads"),
        ("mlps_output[0]", "layers.0.mlp"),
        ("blocks.*.hook_attn_out", "layers.*.attention"),
    ):
        assert here.activations(elsewhere).keys() == here.activations(ours).keys()
    parts = (read["embedding"], read["layers.0.attention"], read["layers.0.mlp"])
    assert sum(parts) == pytest.approx(read["layers.0.residual"], abs=1e-5)
    assert np.allclose(here.patch({"layers.0.mlp": read["layers.0.mlp"]}), model.next(ids), atol=1e-5)
    last = f"layers.{here.layers - 1}.residual"
    assert np.allclose(here.patch(there.activations(last)), model.next(ids[::-1]), atol=1e-5)
    silent = here.patch({"layers.1.heads": lambda x: x * (np.arange(here.heads) != 1)[:, None]})
    assert np.allclose(here.ablate(1, 1), silent) and silent.kl(model.next(ids)) > 1e-6
    slope = here.gradients("a", "layers.0.mlp", foil="b")["layers.0.mlp"]
    step = np.random.default_rng(0).normal(size=slope.shape) * 1e-2
    up, down = (here.patch({"layers.0.mlp": read["layers.0.mlp"] + sign * step}) for sign in (1, -1))
    assert (up["a"] - up["b"] - down["a"] + down["b"]) / 2 == pytest.approx((slope * step).sum(), rel=1e-2)
    for wrong, line in (
        (lambda: here.activations("layers.9.mlp"), "no activation is called"),
        (lambda: here.activations(most=100), "name fewer, or allow more"),
        (lambda: here.patch({"embedding": np.zeros(3)}), r"embedding is \[.*got \[3\]"),
    ):
        with pytest.raises(likely.LikelyError, match=line):
            wrong()


def test_a_direction_moves_the_model_and_goes(folder: Path) -> None:
    model = likely.load(str(folder))
    before = np.array(model.next("ab"))
    made = model.steer(["aa"], ["bb"], layer=0)
    assert np.abs(np.array(model.next("ab")) - before).max() > 1e-4 and model.adapters == (("direction", 1.0),)
    model.adapt(made, 0)
    assert (np.array(model.next("ab")) == before).all()


@pytest.mark.slow
def test_a_training_leaves_the_model_and_gives_an_adapter(folder: Path, tmp_path: Path) -> None:
    model = likely.load(str(folder))
    before = np.array(model.next(ABOUT))
    rows = [{"prompt": "a", "completion": "b"}, {"prompt": "b", "completion": "<i>"}] * 4
    run = likely.tune(model, rows, steps=4, length=32, batch=2, rate=1e-2, out=tmp_path / "adapter")
    assert "not begun" in repr(run) and [e.step for e in run if type(e).__name__ == "Stepped"] == [1, 2, 3, 4]
    assert run.ended is not None and run.ended.reason == "done" and "<polyline" in shown(run)
    assert (np.array(model.next(ABOUT)) == before).all()
    model.adapt(run.adapter)
    assert np.abs(np.array(model.next(ABOUT)) - before).max() > 1e-3 and model.adapters == (("adapter", 1.0),)
    again = likely.load(str(folder), adapter=run.adapter)
    assert np.allclose(again.next(ABOUT), model.next(ABOUT), atol=1e-5)
    model.adapt(run.adapter, 0)
    assert (np.array(model.next(ABOUT)) == before).all() and not model.adapters
    with pytest.raises(likely.LikelyError, match="stepz"):
        likely.tune(model, rows, stepz=4)


class Page(HTMLParser):
    """The tags and attributes of a page."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: set[str] = set()
        self.names: set[str] = set()
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.names |= {name for name, _ in attrs}


def test_pages_are_escaped_without_scripts_or_styles_of_their_own(model: likely.Model) -> None:
    hostile = "<script>\"'&ab"
    values = [
        model.next(hostile),
        model.score(hostile),
        model.inside(hostile).lens(),
        likely.compare(model, model, hostile),
    ]
    for value in values:
        page = Page(shown(value))
        assert page.tags <= {"div", "span", "table", "tr", "th", "td", "svg", "polyline", "circle", "text"}
        assert page.names <= {"style", "title"} and str(value)


def test_what_is_missing_is_said_in_one_line(model: likely.Model, tmp_path: Path) -> None:
    for wrong, line in (
        (lambda: likely.load(str(tmp_path / "nowhere")), "nowhere"),
        (lambda: model.generate(ABOUT, max_tokens=0), "max_tokens must be 1 or more"),
        (lambda: model.generate(ABOUT, strategy="bim 4"), "no way of drawing"),
        (lambda: model.stream(ABOUT, n=2), "one answer"),
        (lambda: model.stream(ABOUT, tokens=2), "no option tokens"),
        (lambda: model.next([5, 10**6]), "vocabulary has the ids"),
        (lambda: model.next([1.5]), "a prompt is a text"),
        (lambda: model.next([]), "nothing to continue"),
        (lambda: likely.catalogue()["size"], "no column 'size': this table has name"),
    ):
        with pytest.raises(likely.LikelyError, match=line) as error:
            wrong()  # type: ignore[no-untyped-call]
        assert "\n" not in str(error.value)
