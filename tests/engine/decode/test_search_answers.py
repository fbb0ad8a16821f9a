"""The answers of a search: the same texts in the same order, whoever asks; against all texts of a table."""

import json
import math
from itertools import pairwise, product
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

import likely
from likely.app.cli import likely as program
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.texts import search_answers, texts_of
from likely.engine.decode.prompt import single_turn
from likely.engine.decode.searches.beam import Beam
from likely.engine.decode.searches.stochastic_beam import StochasticBeam
from likely.engine.measure.synth.writer import Writer
from likely.engine.sampling.trace.step import SamplingConfig
from tests.fakes import EOS
from tests.support import bigram
from tests.support.decoding import PROMPT, few, log_softmax, session

STOP = ord("b")


def stopped_texts(table: np.ndarray, length: int) -> dict[tuple[int, ...], float]:
    """The log-probability of every text of at most `length` tokens that ends at its first b, at its end, or is as long
    as may be."""
    logp, found = log_softmax(table), {}
    for n in range(1, length + 1):
        for body in product((97, 99, 100), repeat=n - 1):
            for last in (STOP, EOS) if n < length else (STOP, EOS, 97, 99, 100):
                ids = (PROMPT[-1], *body, last)
                found[ids[1:]] = float(sum(logp[a, b] for a, b in pairwise(ids)))
    return found


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("n", [1, 3])
def test_texts_that_a_stop_string_ended_take_part_in_the_choice(seed: int, n: int) -> None:
    """With room for all texts the answers are the n likeliest of all, in order."""
    table = few(seed)
    every = stopped_texts(table, 3)
    want = sorted(every, key=lambda ids: -every[ids])[:n]
    found = texts_of(
        session(table).generate(
            PROMPT, RunControl(), strategy=Beam(200, 0.0, "never").best(n), max_tokens=3, stop=("b",)
        )
    )
    assert len(found) > n, "texts that a stop string ended have ended, so there are more than were asked for"
    answers = search_answers(found, n)
    assert [tuple(text.ids) for text in answers] == want
    assert [text.score for text in answers] == pytest.approx([every[ids] for ids in want], abs=1e-5)


def test_a_sample_without_replacement_is_no_larger_for_texts_that_a_stop_string_ended() -> None:
    """A text that another has taken the place of is none of the sample, though it had ended before."""
    more = 0
    for seed in range(40):
        found = texts_of(
            session(few(3)).generate(
                PROMPT, RunControl(), strategy=StochasticBeam(3), max_tokens=6, stop=("b",), seed=seed
            )
        )
        answers = search_answers(found, 3)
        more += len(found) > 3
        assert len(answers) == 3 and all("inclusion" in text.figures for text in answers)
    assert more, "in some run a text that had ended lost its place"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A model on whose table the likeliest text ends by a stop string, and is found after others."""
    table = np.full((bigram.VOCAB, bigram.VOCAB), -30.0)
    for before, after, p in (
        (":", "x", 0.6), (":", "y", 0.4), ("x", "z", 0.3), ("x", "w", 0.7), ("y", "z", 0.95), ("y", "w", 0.05),
        ("w", "x", 0.5), ("w", "z", 0.5), ("z", "z", 1.0),
    ):  # fmt: skip
        table[bigram.ids(before)[0], bigram.ids(after)[0]] = math.log(p)
    return bigram.write(tmp_path / "tiny", table)


BY_SUM = ["y", "xw", "x"]  # p .38, .21 and .18, with the z that ends each; "x" ends first


@pytest.mark.slow(2)
def test_every_way_to_ask_gives_the_same_answers(folder: Path, tmp_path: Path) -> None:
    model = likely.load(str(folder))
    options = {"strategy": "beam 4 0", "stop": ["z"], "max_tokens": 4}
    traces = model.generate(":", n=3, **options)
    said = [trace.text for trace in traces]
    assert said == BY_SUM
    assert model.generate(":", **options).text == BY_SUM[0]
    assert "".join(step.text for step in model.stream(":", **options)) == BY_SUM[0]
    words = ["-M", str(folder), "--raw", "--strategy", "beam 4 0", "--stop", "z", "-m", "4", "--json"]
    shown = CliRunner().invoke(program, ["run", ":", "--answers", "3", *words], catch_exceptions=False)
    assert [json.loads(line)["text"] for line in shown.stdout.splitlines()] == BY_SUM
    task = tmp_path / "task.toml"
    (tmp_path / "rows.jsonl").write_text(json.dumps({"prompt": ":", "answer": "y"}) + "\n")
    task.write_text('data = "rows.jsonl"\nmax_tokens = 4\nstop = ["z"]\n')
    judged = CliRunner().invoke(
        program, ["eval", str(task), "-M", str(folder), "--strategy", "beam 4 0", "--json", "--items"],
        catch_exceptions=False,
    )  # fmt: skip
    assert [json.loads(line)["answers"] for line in judged.stdout.splitlines()] == [["y"]], judged.output
    writer = Writer(model.session, SamplingConfig(), Beam(4, 0.0), 4)
    paths = writer.draw(single_turn(":", model.tokenizer, raw=True), 3, 0, ("z",))
    assert [path.text for path in paths] == BY_SUM
