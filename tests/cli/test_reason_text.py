"""Words and objects of answers, from what was found made by hand: verdicts, walks, gains, summaries, loops."""

import io
import math
import sys
from dataclasses import replace
from typing import Any

import pytest

from likely.app.cli.evaluation import problems
from likely.app.cli.generate import text_chat, walks
from likely.engine.base.statistics.estimates import Change, Estimate
from likely.engine.decode.loop.events import Done, Prefilled, Stats
from likely.engine.measure.reason.problems import AccuracyPoint, Flips, Gain
from likely.engine.sampling.trace.step import SamplingConfig, TokenStep

LN2 = math.log(2)
STATS = Stats(prompt_tokens=9, reused_tokens=4, tokens=5, prefill_s=0.25, decode_s=2.0)


def step(text: str, bits: float | None = 1.0, position: int = 0, **more: Any) -> TokenStep:
    given: dict[str, Any] = {
        "logprob": None if bits is None else -bits * LN2, "logprob_after": -LN2, "entropy": 1.0, "entropy_after": 1.0,
        "rank": 1, "kept": 1, "recipe": SamplingConfig(), "snapshot": None, "removed_by": None,
    }  # fmt: skip
    return TokenStep(ord(text[0]), text.encode(), text, position=position, **given | more)


WALK = {"accepted": 0.456, "effective": 3.21, "drawn": 120.0, "score": 0.5}


def test_a_walk_says_what_it_cost() -> None:
    assert walks.walk_lines({"score": 1.0}, [1.0], 5) == []
    said = (
        "46% of the proposals taken, worth 3.2 independent texts · 120 tokens drawn for 50, 2.4 each, none read twice"
    )
    assert walks.walk_lines(WALK, [1.0], 50) == [said]
    assert walks.walk_lines(WALK, [-LN2, -3 * LN2], 0) == [
        said.replace("50, 2.4", "0, 120.0"), "log₂p of the walk █▁ -3.0 to -1.0",
    ]  # fmt: skip


def test_a_plot_has_sixty_cells_at_most() -> None:
    assert walks.plot([0.0, 7.0, 3.5, 3.4]) == "▁█▅▄" and walks.plot([2.0, 2.0]) == "▁▁"
    assert walks.plot([float(i) for i in range(60)]) == "".join(walks.LEVELS[round(i / 59 * 7)] for i in range(60))
    long = walks.plot([float(i == 60) for i in range(61)])
    assert (
        len(long) == 60 and long == "▁" * 59 + "█" and walks.plot([float(i == 30) for i in range(61)]).count("█") <= 1
    )


def estimate(mean: float, n: int = 4) -> Estimate:
    return Estimate(mean, 0.1, bounds=(mean - 0.25, mean + 0.25), n=n)


GAIN = Gain(
    greedy=estimate(0.5), method=estimate(0.9), change=Change(estimate(0.4), 0.01), greedy_tokens=12.34, tokens=123.45,
    unanswered=3,
    curve=(
        AccuracyPoint(1, 10.0, estimate(0.25), estimate(0.3)), AccuracyPoint(4, 40.0, estimate(0.5), estimate(0.6)),
    ),
    plurality=0.755, p=4, flips=Flips(2, 1, 1),
)  # fmt: skip


def test_a_gain_is_an_object() -> None:
    told = problems.gain_object(GAIN)
    assert told["problems"] == 4 and told["greedy"] == {"mean": 0.5, "low": 0.25, "high": 0.75, "tokens": 12.34}
    assert told["method"]["tokens"] == 123.45 and told["difference"]["p"] == 0.01 and told["unanswered"] == 3
    assert told["curve"][1] == {
        "paths": 4, "tokens": 40.0, "pass": {"mean": 0.5, "low": 0.25, "high": 0.75},
        "maj": {"mean": 0.6, "low": pytest.approx(0.35), "high": 0.85},
    }  # fmt: skip
    assert told["flips"] == {"right_to_wrong": 2, "wrong_to_right": 1, "kept": 1} and told["plurality_right"] == 0.755
    assert "flips" not in problems.gain_object(replace(GAIN, flips=None))


def test_long_prompts_are_counted_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()
    said.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stderr", said)
    text_chat.stream(
        iter([Prefilled(9, 2048), Prefilled(9, 2049), Prefilled(2049, 2049), Done(0, "eot", STATS)]), io.StringIO()
    )
    assert said.getvalue() == "\r\x1b[Kreading 9 of 2049 tokens\r\x1b[Kreading 2049 of 2049 tokens\r\x1b[K"


def test_a_summary_has_the_figures_of_the_answer_and_names_a_loop() -> None:
    said = text_chat.summary([step("a"), step("b", 3.0)], Done(0, "eot", STATS))
    assert said.startswith(
        "9 prompt tokens (4 reused) in 0.25 s · 5 tokens at 2.0/s · perplexity 4.00 (predicted 2 of 2"
    )
    for steps, words in (([step("a", None)] * 32, "1 token"), ([step("a"), step("b")] * 16, "2 tokens")):
        assert text_chat.summary(steps, Done(0, "length", STATS)).endswith(f"repeats its last {words} without end")


@pytest.mark.parametrize(
    ("tokens", "period"),
    [
        ([1] * 31, 0), ([1] * 32, 1), ([1, 2] * 16, 2), ([1, 2] * 15, 0), ([0, *[1] * 32], 1), ([*range(64)] * 4, 64),
        ([*range(64)] * 3, 0), ([*[*range(64)] * 4, 99], 0), ([*range(65)] * 4, 0), ([1, 2, 3] * 5, 0), ([], 0),
        ([*range(200)], 0),
    ],
)  # fmt: skip
def test_a_loop_is_recognised_by_its_period_and_text_is_not(tokens: list[int], period: int) -> None:
    assert text_chat.endless(tokens) == period
