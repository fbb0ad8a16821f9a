"""The law over which tool is called, by every spelling in tokens; what a call's arguments and result have surprised."""

from pathlib import Path

import numpy as np
import pytest

from likely.engine.base.concurrency.resumable import whole
from likely.engine.chat.tools.choice import CallOpening, choosing
from likely.engine.chat.tools.tool import Tool, ToolCall
from likely.engine.chat.tools.tool_prompt import call_fields, hearing
from likely.engine.chat.tools.use import ToolUse
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.texts import texts_of
from likely.engine.decode.prompt import Prompt
from likely.engine.decode.session import Session
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.weights.sources.checkpoint import load
from tests.support import bigram


def test_the_law_over_tools_is_the_sum_over_all_spellings(tmp_path: Path) -> None:
    """In a vocabulary where `ab` is one token and two, against all ways through the table, by recursion."""
    table = bigram.random_table(3) * 0.7
    after = {
        ":": ["<"],
        "<": ["ab", "a"],
        "a": ["b", "}"],
        "ab": ["{", "}", "a"],
        "b": ["{", "}"],
        "{": ["ab", "a", "b"],
    }
    for last, following in after.items():  # calls are likely enough
        table[bigram.ids(last)[0], [bigram.ids(text)[0] for text in following]] += 8
    logp = table.astype(np.float32).astype(np.float64)
    p = np.exp(logp - np.logaddexp.reduce(logp, axis=1, keepdims=True))
    session = Session(load(str(bigram.write(tmp_path / "model", table))))
    pieces = {t: session.tokenizer.piece(t) for t in range(bigram.VOCAB) if not session.tokenizer.is_special(t)}

    def begins(text: bytes, last: int) -> float:
        """The probability that what follows the token `last` begins with a text."""
        if not text:
            return 1.0
        on = [t for t, piece in pieces.items() if piece and (text.startswith(piece) or piece.startswith(text))]
        return sum(p[last, t] * begins(text[len(pieces[t]) :], t) for t in on)

    prompt, opening = bigram.ids("x:"), CallOpening("<ab", "{", "}")
    law = whole(choosing(session, prompt, ["ab", "aba", "b"], opening))
    want = {name: begins(f"<ab{{{name}}}".encode(), prompt[-1]) for name in ("ab", "aba", "b")}
    called = begins(b"<ab", prompt[-1])
    assert dict(law.tools) == pytest.approx(want, abs=2e-5) and min(want.values()) > 1e-4
    assert law.none == pytest.approx(1 - called, abs=2e-5)
    assert law.other == pytest.approx(called - sum(want.values()), abs=2e-5) and law.undecided < 1e-4
    assert sum(want.values()) + law.other + law.none + law.undecided == pytest.approx(1, abs=1e-4)


def test_an_argument_has_the_surprise_of_its_own_tokens() -> None:
    written = ['{"name": "f", ', '"arguments": {"f', '": ', '"a', 'b", ', '"n": ', "12", "}}"]
    found = call_fields(ToolCall("f", {"f": "ab", "n": 12}), written, [-1.0 * i for i in range(8)])
    assert [(f.name, f.text, f.tokens, f.logprob) for f in found] == [
        ("f", '"ab"', (3, 5), -7.0), ("n", "12", (6, 7), -6.0),
    ]  # fmt: skip
    assert not call_fields(ToolCall("g", {"other": 1}), written, [None] * 8)


def test_results_are_tokens_of_their_own_each_with_its_surprise(tmp_path: Path) -> None:
    """Two results behind a prompt, against the table; what the template writes between them is not measured."""
    table = bigram.random_table(5)
    session = Session(load(str(bigram.write(tmp_path / "model", table))))
    turns = (("user", "ab"), ("assistant", "{"), ("user", "xyz"), ("user", "ba"))
    heard = whole(hearing(session, Prompt(turns), 2))
    text = "u:ab;a:{;u:xyz;u:ba;"
    assert [*heard.before, *(step.token for step in heard.steps)] == bigram.ids(text)[: -len(bigram.ids(";"))]
    assert "".join(step.text for step in heard.steps) == "xyz;u:ba"
    for one, words in zip(heard.results, ("xyz", "ba"), strict=True):
        assert one.logprob == pytest.approx(bigram.logprob(table, words, bigram.ids(":")[0]), abs=1e-3)
    assert sum(step.logprob or 0 for step in heard.steps) == pytest.approx(sum(one.logprob for one in heard.results))
    assert [step.text for step in heard.steps if step.logprob is None] == [";", "u", ":"]


@pytest.mark.slow(2)
def test_an_answer_that_is_bound_gives_a_tool_nothing_that_it_does_not_take(tmp_path: Path) -> None:
    session = Session(load(str(bigram.write(tmp_path / "model", bigram.random_table(6)))))
    use = ToolUse((Tool("", "f", "", {"type": "object", "properties": {"xy": {}, "b": {}}}),), None)
    written = '{"name": "f", "arguments": {"'
    ids, forced = bigram.ids("x:"), session.tokenizer.encode(written)
    bound = use.constraint(len(ids))
    assert bound is not None
    found = set()
    for seed in range(8):
        control = RunControl(SamplingConfig((bound,)))
        control.force(list(forced))
        events = session.generate(ids, control, seed=seed, max_tokens=len(forced) + 1)
        (text,) = texts_of(events)
        found.add("".join(step.text for step in text.steps).removeprefix(written)[:1])
    assert found == {"x", "b"}
