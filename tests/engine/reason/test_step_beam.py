"""Search by steps over a session whose continuations are a table: what is kept, read again, and cut."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from likely.engine.decode.answers.extraction import Extraction
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.events import Done, Emitted, Event, Stats
from likely.engine.measure.reason.paths import ReasoningPath
from likely.engine.measure.reason.step_beam import StepBeam
from likely.engine.sampling.trace.step import TokenStep
from tests.fakes import ByteTokenizer
from tests.laws.test_votes import step

STATS = Stats(1, 0, 1, 0.0, 0.0)
Ways = dict[str, list[tuple[str, str]]]


class Table:
    """A session that goes on from each text in the ways of a table: bytes that are drawn, and why they end.

    A stop string is drawn, and is in no step's text, as a session has it.
    """

    def __init__(self, ways: Ways, control: RunControl | None = None, cancel_at: int = -1) -> None:
        self.ways, self.seeds, self.tokenizer = ways, list[int](), ByteTokenizer()
        self.control, self.left = control, cancel_at

    def generate(self, ids: Sequence[int], control: RunControl, *, n: int, **more: Any) -> Iterator[Event]:
        text = bytes(ids).decode().removeprefix("?")
        self.seeds.append(more["seed"])
        for branch in range(n):
            drawn, reason = self.ways[text][branch % len(self.ways[text])]
            ends = [at for stop in more["stop"] if (at := drawn.find(stop)) >= 0] if reason == "stop" else []
            shown = drawn[: min(ends)] if ends else drawn
            for i, letter in enumerate(drawn):
                self.left -= 1
                if self.left == 0 and self.control is not None:
                    self.control.cancel()
                token = replace(step([0.5, 0.5]), text=shown[i : i + 1], piece=letter.encode(), position=i)
                yield Emitted(branch, token)
                if control.cancelled:
                    reason = "cancelled"
                    break
            yield Done(branch, reason, STATS, "")


def searched(table: Table, beam: StepBeam, scores: Any, **more: Any) -> list[ReasoningPath]:
    control = more.pop("control", RunControl())
    return beam.search(table, list(b"?"), control, scores, extract=Extraction("number"), **more)  # type: ignore[arg-type]


def by_digits(text: str, steps: Sequence[TokenStep], whole: bool) -> float:
    return float(sum(int(c) for c in text if c.isdigit()))


TREE: Ways = {
    "": [("1\n", "stop"), ("4\n", "stop"), ("2\n", "stop"), ("1 \n", "stop")],
    "4\n": [("1", "eot"), ("3\n", "stop"), ("0\n", "stop"), ("0", "length")],
    "2\n": [("9", "eot"), ("1", "eot"), ("2", "eot"), ("3", "eot")],
    "4\n3\n": [("", "eot"), ("5", "eot"), ("1", "eot"), ("2", "eot")],
}


def test_the_best_beginnings_go_on_and_equal_texts_count_once() -> None:
    table = Table(TREE)
    seen: list[tuple[str, int, bool]] = []

    def value(text: str, steps: Sequence[TokenStep], whole: bool) -> float:
        seen.append((text, len(steps), whole))
        return by_digits(text, steps, whole)

    paths = searched(table, StepBeam(2, 4, max_tokens=9), value, seed=5)
    assert [(p.branch, p.text, p.answer, p.finish) for p in paths] == [
        (0, "4\n3\n5", "5", "eot"), (1, "2\n9", "9", "eot"),
    ]  # fmt: skip
    assert len(set(table.seeds)) == 4  # no two beginnings draw alike
    assert [p.drawn for p in paths] == [9 + (1 + 2 + 2 + 1) + 4 + 3, 0]
    assert sorted(seen[:3]) == [("1\n", 2, False), ("2\n", 2, False), ("4\n", 2, False)]
    assert [text for text, _, _ in seen].count("2\n9") == 1  # what was whole before is not judged again
    assert paths[0].tokens == 5 and paths[0].whole and ("4\n3\n5", 5, True) in seen


def test_what_has_no_value_comes_last() -> None:
    values = {"1\n": None, "4\n": -3.0, "2\n": -5.0}
    cut = RunControl()
    table = Table(TREE, cut, 9)
    paths = searched(table, StepBeam(3, 4), lambda text, steps, whole: values[text], control=cut)
    assert [p.text for p in paths] == ["4\n", "2\n", "1\n"] and {p.finish for p in paths} == {"cancelled"}
    assert [p.answer for p in paths] == [None] * 3 and [p.drawn for p in paths] == [9, 0, 0]


def test_a_run_that_is_cancelled_in_a_step_keeps_it() -> None:
    control = RunControl()
    table = Table({"": [("12\n", "stop"), ("34\n", "stop")]}, control, 2)
    paths = searched(table, StepBeam(2, 2), by_digits, control=control)
    assert [(p.text, p.finish, p.tokens) for p in paths] == [("3", "cancelled", 1), ("12", "cancelled", 2)]


STEPS = [
    ("ab\n", "stop", 9, (), "ab\n", ""), ("ab\n", "stop", 4, (), "ab\n", ""),
    ("ab\n", "stop", 3, (), "ab", "length"), ("ab;", "stop", 9, (";",), "ab", "stop"),
    (";\n", "stop", 9, (";",), "", "stop"), ("a\n;", "stop", 9, (";",), "a\n", ""),
    ("\n", "stop", 9, (";",), "\n", ""), ("ab", "eot", 9, (), "ab", "eot"), ("ab", "length", 9, (), "ab", "length"),
]  # fmt: skip


def test_a_step_goes_on_or_is_the_end() -> None:
    """What goes on is read again, and says `z` and its end."""
    for drawn, reason, most, stop, text, finish in STEPS:
        table = Table({"": [(drawn, reason)], text or "-": [("z", "eot")]})
        (found,) = searched(table, StepBeam(1, 1, max_tokens=most, stop=stop), by_digits)
        assert (found.text, found.finish) == ((text, finish) if finish else (text + "z", "eot")), drawn
