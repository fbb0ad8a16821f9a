"""`likely diff` of two models whose laws are tables: every figure is a sum over them in float64."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from tests.cli.conftest import Likely
from tests.support import bigram

TABLES = [bigram.random_table(seed) for seed in (1, 2)]
LOGP = [table - np.logaddexp.reduce(table, axis=1, keepdims=True) for table in TABLES]


def greedy(table: np.ndarray, last: int, most: int) -> list[int]:
    drawn: list[int] = []
    while len(drawn) < most and bigram.EOS not in drawn:
        last = int(table[last].argmax())
        drawn.append(last)
    return drawn


def test_each_answer_is_read_by_each_model(likely: Likely, tmp_path: Path) -> None:
    one, two = (str(bigram.write(tmp_path / str(i), table)) for i, table in enumerate(TABLES))
    last = bigram.ids(":")[-1]  # of the prompt
    found = json.loads(likely("diff", one, two, "hello", "--answers", "30", "--json").out)
    answers = [greedy(table, last, 30) for table in TABLES]
    for i, (answer, told) in enumerate(zip(answers, found["answers"], strict=True)):
        ways = [(a, b) for a, b in zip([last, *answer], answer, strict=False)]
        costs = [-np.mean([logp[a, b] for a, b in ways]) for logp in LOGP]
        assert [row[i]["mean"] for row in found["cross_surprisal"]] == pytest.approx(costs, rel=1e-4)
        p, q = (logp[[a for a, _ in ways]] for logp in (LOGP[i], LOGP[1 - i]))
        assert [len(told["positions"]), told["models"]] == [len(answer), [one, two] if i == 0 else [two, one]]
        kl = np.sum(np.exp(p) * (p - q), axis=-1)
        assert told["estimates"]["reverse_kl"]["mean"] == pytest.approx(kl.mean(), rel=1e-4)
        assert told["estimates"]["excess"]["mean"] == pytest.approx(costs[1 - i] - costs[i], rel=1e-3)
        assert told["forks"] == np.flatnonzero(p.argmax(-1) != q.argmax(-1)).tolist()
    code, out, _ = likely("diff", one, two, "hello", "--answers", "30")
    bits = [f"{row[i]['mean'] / math.log(2):.3f}" for row in found["cross_surprisal"] for i in range(2)]
    assert code == 0 and [word for line in out.splitlines()[-4:-2] for word in line.split()[1:]] == bits
    assert json.loads(likely("diff", one, two, "hello", "--answers", "30", "--chat", "--json").out) == found


def test_what_is_answered_is_explained_token_by_token(likely: Likely, tmp_path: Path) -> None:
    one, last = str(bigram.write(tmp_path / "one", TABLES[0])), bigram.ids(":")[-1]
    found = json.loads(likely("explain", "--chat", "hello", "-M", one, "-c", "b", "--json").out)
    answer = greedy(TABLES[0], last, 64)
    ways = list(zip([last, *answer], answer, strict=False))
    assert [token["id"] for token in found["tokens"]] == answer and found["predicted"] == len(answer)
    assert found["total_logprob"] == pytest.approx(sum(LOGP[0][a, b] for a, b in ways), rel=1e-4)
    assert found["continuations"][0]["logprob"] == pytest.approx(LOGP[0][last, bigram.ids("b")[-1]], rel=1e-4)
    both = [likely("diff", one, one, "hello", "--chat", *more, "--json").out for more in ((), ("--answers", "64"))]
    assert both[0] == both[1] and json.loads(both[0])["answers"][0]["text"] == found["answer"]


def test_of_a_text_it_says_both_ways_and_which_writes_it_for_less(likely: Likely, tmp_path: Path) -> None:
    one, two = (str(bigram.write(tmp_path / str(i), table)) for i, table in enumerate(TABLES))
    text = "".join(chr(97 + i % 26) for i in greedy(TABLES[0], 3, 60))
    told = json.loads(likely("diff", one, two, text, "--json").out)
    costs = [estimate["mean"] for estimate in told["estimates"]["nll"]]
    ways = list(zip(bigram.ids(text), bigram.ids(text)[1:], strict=False))
    assert costs == pytest.approx([-np.mean([logp[a, b] for a, b in ways]) for logp in LOGP], rel=1e-4)
    low, high = (told["estimates"]["excess"][end] for end in ("low", "high"))
    line = likely("diff", one, two, text).out.splitlines()[-1]
    assert ("not seen" in line) == (
        low <= 0 <= high
    ) and f"({low / math.log(2):.4f} to {high / math.log(2):.4f})" in line
    assert "both write the text for the same" in likely("diff", one, one, text).out


def test_of_one_token_it_says_that_nothing_is_predicted(likely: Likely, tmp_path: Path) -> None:
    one, two = (str(bigram.write(tmp_path / str(i), table)) for i, table in enumerate(TABLES))
    assert len(bigram.ids("a")) == 1
    out = likely("diff", one, two, "a").out
    assert "nan" not in out and "inf" not in out and "no token is predicted" in out.splitlines()[-1]
    p, q = (logp[bigram.ids("a")[0]] for logp in LOGP)
    assert f"{np.sum(np.exp(q) * (q - p)) / math.log(2):.4f}" in out
