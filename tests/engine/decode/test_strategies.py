"""Strategies: their text form, one added by a file and a line, and what becomes of branches that part and are given up.

The models are tables of probabilities, so that the best text of a length is known by enumeration.
"""

import importlib.util
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from likely.app.cli.answers import show_answers
from likely.app.cli.sampling import Limits
from likely.engine.decode.branches import Branches
from likely.engine.decode.control import RunControl
from likely.engine.decode.events import Done, Emitted, Event, Forked, Pruned, Revised
from likely.engine.decode.guessing import Drafting, NGram
from likely.engine.decode.sampler import Sampler
from likely.engine.decode.strategies import STRATEGIES, parse
from likely.engine.decode.strategy import Steps, Strategy
from likely.engine.errors import ParameterError
from likely.engine.session import Session
from likely.engine.trace.observe import observe
from likely.engine.trace.step import Recipe, TokenStep
from likely.engine.transforms import RepetitionPenalty, Temperature
from tests.fakes import EOS, VOCAB, ByteTokenizer, FakeCheckpoint, MarkovModel, random_table

PROMPT = list(b"ask")
BEAM = '''
"""Beam search: the `beams` likeliest texts so far, each step."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from likely.engine.decode.events import Emitted
from likely.engine.decode.strategy import Strategy
from likely.engine.trace.observe import observe
from likely.engine.trace.step import Recipe


@dataclass(frozen=True, slots=True)
class Beam(Strategy):
    NAME: ClassVar[str] = "beam"
    TITLE: ClassVar[str] = "beam"
    ABOUT: ClassVar[str] = "the likeliest texts"

    beams: int = 4

    def width(self, n):
        return self.beams

    def steps(self, branches, sampler, control, *, limit):
        score = np.zeros(1)
        for n in range(limit):
            rows = np.asarray(branches.logits()).astype(np.float64)
            total = rows - np.logaddexp.reduce(rows, axis=-1, keepdims=True) + score[:, None]
            best = np.argsort(-total.ravel(), kind="stable")[: self.beams]
            from_, tokens = best // rows.shape[1], best % rows.shape[1]
            score = total.ravel()[best]
            yield from branches.part(from_.tolist())
            steps = [
                observe(rows[row].astype(np.float32), int(token), recipe=Recipe(), position=branches.length)
                for row, token in zip(from_, tokens, strict=True)
            ]
            branches.feed([int(token) for token in tokens])
            branches.settle([int(token) for token in tokens])
            over = []
            for number, step in zip(branches.numbers, steps, strict=True):
                over.append((yield Emitted(number, step)))
            if all(over):
                return
'''


class Watch:
    """A consumer: the texts and tokens of each branch as the events tell them, and how each ended."""

    def __init__(self, events: Iterable[Event]) -> None:
        self.tokens: dict[int, list[int]] = {0: []}
        self.text: dict[int, str] = {0: ""}
        self.ends: dict[int, Done] = {}
        self.pruned: list[int] = []
        self.revised: list[Revised] = []
        for event in events:
            self.see(event)

    def see(self, event: Event) -> None:
        match event:
            case Emitted(branch, step):
                assert branch not in self.ends and branch not in self.pruned
                self.tokens.setdefault(branch, []).append(step.token)
                self.text[branch] = self.text.get(branch, "") + step.text
            case Forked(parent, child):
                assert child not in self.tokens
                self.tokens[child], self.text[child] = list(self.tokens[parent]), self.text[parent]
            case Pruned(branch):
                self.pruned.append(branch)
            case Revised():
                self.revised.append(event)
            case Done(branch, _, _, text):
                self.ends[branch] = event
                self.text[branch] = self.text.get(branch, "") + text


def session(table: np.ndarray) -> Session:
    return Session(FakeCheckpoint(MarkovModel(table)))  # type: ignore[arg-type]


def few(seed: int, tokens: int = 5) -> np.ndarray:
    """A table in which only the first letters can be drawn."""
    table = np.full((VOCAB, VOCAB), -np.inf)
    table[:, 97 : 97 + tokens] = random_table(seed, 1.5)[:, :tokens]
    return table


# -- the value -------------------------------------------------------------------------------------------------------


def test_no_strategy_imports_mlx() -> None:
    code = (
        "import sys, likely.engine.decode.strategies; print([m for m in sys.modules if m.partition('.')[0] == 'mlx'])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "[]"


def test_strategies_for_one_answer_refuse_more_by_name() -> None:
    for strategy in (NGram(), Drafting("x")):
        with pytest.raises(ParameterError, match=f"{strategy.NAME} uses the room of a pass"):
            next(session(few(0)).generate(PROMPT, RunControl(), n=2, strategy=strategy))
    with pytest.raises(ParameterError, match="'draft x' is no way of drawing while x is not loaded"):
        next(session(few(0)).generate(PROMPT, RunControl(), strategy=Drafting("x")))


def test_a_vote_draws_what_as_many_samples_do() -> None:
    several = Watch(session(few(3)).generate(PROMPT, RunControl(), n=4, seed=5, max_tokens=6))
    vote = Watch(session(few(3)).generate(PROMPT, RunControl(), seed=5, max_tokens=6, strategy=parse("vote 4 answer")))
    assert vote.tokens == several.tokens and len(set(vote.text.values())) > 1
    with pytest.raises(ParameterError, match="vote has several answers by itself"):
        next(session(few(3)).generate(PROMPT, RunControl(), n=2, strategy=parse("vote 4")))


# -- one more: a file and a line -------------------------------------------------------------------------------------


@pytest.fixture
def beam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "beam.py"
    file.write_text(BEAM)
    spec = importlib.util.spec_from_file_location("beam", file)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "beam", module)
    spec.loader.exec_module(module)
    monkeypatch.setitem(STRATEGIES, "beam", module.Beam)  # the registry's line


def best(table: np.ndarray, length: int, tokens: int = 5) -> list[tuple[float, list[int]]]:
    """All texts of a length after the prompt, the likeliest first."""
    logp = table - np.logaddexp.reduce(table, axis=-1, keepdims=True)
    texts: list[tuple[float, list[int]]] = [(0.0, [])]
    for _ in range(length):
        texts = [
            (p + logp[(PROMPT + ids)[-1], t], [*ids, t]) for p, ids in texts for t in range(97, 97 + tokens)
        ]  # fmt: skip
    return sorted(texts, key=lambda text: -text[0])


@pytest.mark.parametrize("seed", range(4))
def test_a_new_strategy_runs_end_to_end(beam: None, seed: int) -> None:
    """With as many beams as there are texts, beam search is enumeration: it finds the likeliest of them."""
    table, s = few(seed), session(few(seed))
    strategy = parse("beam 125")
    assert str(strategy) == "beam 125" and str(parse("beam")) == "beam"
    seen = Watch(s.generate(PROMPT, RunControl(), max_tokens=4, strategy=strategy))
    want = best(table, 4)[:125]
    assert {tuple(seen.tokens[b]) for b in seen.ends} == {tuple(ids) for _, ids in want}
    assert all(end.reason == "length" for end in seen.ends.values()) and seen.pruned
    assert all(seen.text[b] == bytes(seen.tokens[b]).decode() for b in seen.ends)
    assert not set(seen.pruned) & set(seen.ends)
    _, again = [e for e in s.generate(PROMPT, RunControl(), max_tokens=1) if isinstance(e, Emitted | Done)]
    assert isinstance(again, Done) and again.stats.reused_tokens == len(PROMPT)  # the place that it came from is kept


def test_a_new_strategy_answers_on_the_command_line(beam: None, capsys: pytest.CaptureFixture[str]) -> None:
    table = few(2)
    show_answers(
        *(session(table), PROMPT, RunControl(), Limits(0, 3, ())),
        n=1, strategy=parse("beam 25"), as_json=False, special=False, quiet=True, save=None,
    )  # fmt: skip
    answers = capsys.readouterr().out.splitlines()[1::2]
    assert sorted(answers) == sorted(bytes(ids).decode() for _, ids in best(table, 3)[:25])


# -- branches --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Script(Strategy):
    """Gives the events it is told, without a model."""

    NAME: ClassVar[str] = "script"

    events: tuple[Any, ...] = ()

    def steps(self, branches: Branches, sampler: Sampler, control: RunControl, *, limit: int) -> Steps:
        position = {0: len(PROMPT)}
        for event in self.events:
            match event:
                case (int(branch), str(text)):
                    for byte in text.encode("latin-1"):
                        yield Emitted(branch, step(byte, position[branch]))
                        position[branch] += 1
                case Forked(parent, child):
                    position[child] = position[parent]
                    yield event
                case _:
                    yield event


def step(token: int, position: int) -> TokenStep:
    return observe(np.zeros(VOCAB, np.float32), token, recipe=Recipe(), position=position)


def watch(*events: Any, stop: tuple[str, ...] = ()) -> Watch:
    return Watch(session(few(0)).generate(PROMPT, RunControl(), strategy=Script(events), stop=stop))


def test_a_text_parts_in_the_middle_of_a_character() -> None:
    """The first byte of "é" and "è" stands before the fork: each branch completes its own."""
    seen = watch((0, "caf\xc3"), Forked(0, 1), (0, "\xa9!"), (1, "\xa8?"), Forked(1, 2), (2, "\xc3"))
    assert seen.text == {0: "café!", 1: "cafè?", 2: "cafè?\ufffd"}
    assert [end.stats.tokens for end in seen.ends.values()] == [6, 6, 7]


def test_a_text_parts_in_the_middle_of_a_stop_string() -> None:
    seen = watch((0, "ab<"), Forked(0, 1), (0, "end>"), (1, "e"), stop=("<end>",))
    assert seen.text == {0: "ab", 1: "ab<e"}
    assert {b: end.reason for b, end in seen.ends.items()} == {0: "stop", 1: "length"}
    assert seen.tokens[1] == list(b"ab<e")


def test_a_branch_that_is_given_up_leaves_nothing() -> None:
    seen = watch((0, "ab"), Forked(0, 1), Pruned(0), (1, "c"), Forked(1, 2), Pruned(2), stop=("cd",))
    assert seen.pruned == [0, 2] and list(seen.ends) == [1] and seen.text[1] == "abc"


def test_the_answer_to_an_event_says_whether_its_branch_is_over() -> None:
    answers: dict[int, list[bool | None]] = {0: [], 1: []}

    class Listening(Script):
        def steps(self, branches: Branches, sampler: Sampler, control: RunControl, *, limit: int) -> Steps:
            position = len(PROMPT)
            for branch, token in ((0, 97), (1, 97), (0, EOS), (1, 98), (1, 99), (1, 100)):
                answers[branch].append((yield Emitted(branch, step(token, position))))

    events = session(few(0)).generate(PROMPT, RunControl(), n=2, strategy=Listening(), stop=("cd",))
    assert {b: end.reason for b, end in Watch(events).ends.items()} == {0: "eot", 1: "stop"}
    assert answers == {0: [False, True], 1: [False, False, False, True]}


def test_a_revision_is_passed_on_with_its_text() -> None:
    late = Revised(0, len(PROMPT), step(ord("X"), len(PROMPT)))
    seen = watch((0, "ab"), late)
    assert [(r.branch, r.position, r.step.text, r.step.piece) for r in seen.revised] == [(0, 3, "X", b"X")]


def test_a_revision_of_what_is_held_back_comes_as_it_is_revised() -> None:
    """ "<e" could begin a stop string; the "<" becomes another before anyone has seen it."""
    seen = watch((0, "a<e"), Revised(0, 4, step(ord("("), 4)), (0, "f"), stop=("<end>",))
    assert seen.revised == [] and seen.text[0] == "a(ef"


@pytest.mark.parametrize("recipe", [Recipe(), Recipe((RepetitionPenalty(1.4), Temperature(1.2)))])
def test_branches_in_another_order_go_on_as_themselves(recipe: Recipe) -> None:
    """A reordering that keeps the number of branches: the loop that was here before took it for none at all."""
    table = random_table(6, 1.0)
    table[:, EOS] = -50
    model = MarkovModel(table)
    place = Branches(model, model.make_cache())  # type: ignore[arg-type]
    list(place.read(PROMPT))
    place.select([0] * 3)
    sampler = Sampler.start(recipe, place.ids, seed=5, vocabulary=ByteTokenizer())
    drawn: dict[int, list[int]] = {number: [] for number in place.numbers}
    for order in ([0, 1, 2], [2, 0, 1], [1, 0, 2], [0, 1, 2], [2, 1, 0]):
        assert list(place.part(order)) == []
        sampler = sampler.select(order)
        draws = sampler.draw(place)
        tokens = [int(draw.token) for draw in draws]
        for number, token in zip(place.numbers, tokens, strict=True):
            drawn[number].append(token)
        place.feed(tokens)
        place.settle(tokens)
        sampler = sampler.advance(draws)
    for number, tokens in drawn.items():
        events = session(table).generate(PROMPT, RunControl(recipe), seed=5 + number, max_tokens=5)
        assert tokens == [event.step.token for event in events if isinstance(event, Emitted)]
