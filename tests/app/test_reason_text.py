"""Words of answers: of several ways of thought, of a file's problems, of searches, of walks, of holes and passes."""

import io
import json
import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from app import plain
from app.cli import answers, diffused, hypotheses, problems, reason, walks
from app.cli.answers import show_answers
from app.cli.hypotheses import show_hypotheses
from app.cli.sampling import Limits
from engine.decode.control import RunControl
from engine.decode.events import Done, Emitted, Forked, Prefilled, Pruned, Rated, Reloaded, Revised, Stats
from engine.decode.strategies import PLAIN
from engine.evaluate.estimates import Change, Estimate
from engine.evaluate.tasks import Question
from engine.reason.paths import Path as ReasonPath
from engine.reason.paths import VoteOutcome
from engine.reason.problems import Attempt, Flips, Gain, Spent
from engine.trace import file as trace_file
from engine.trace.trace import Recipe, TokenStep
from tests.app.terminal import coloured
from tests.fakes import ByteTokenizer
from tests.pictures import assert_picture

LN2 = math.log(2)
Captured = pytest.CaptureFixture[str]
STATS = Stats(prompt_tokens=9, reused_tokens=4, tokens=5, prefill_s=0.25, decode_s=2.0)
SESSION: Any = SimpleNamespace(ranks=None, tokenizer=ByteTokenizer(), info=SimpleNamespace(name="m", weights="w"))


def step(text: str, bits: float | None = 1.0, position: int = 0, **more: Any) -> TokenStep:
    given: dict[str, Any] = {
        "logprob": None if bits is None else -bits * LN2, "logprob_after": -LN2, "entropy": 1.0, "entropy_after": 1.0,
        "rank": 1, "kept": 1, "recipe": Recipe(), "snapshot": None, "removed_by": None,
    }  # fmt: skip
    return TokenStep(ord(text[0]), text.encode(), text, position=position, **given | more)


def session(*events: Any) -> Any:
    asked: list[Any] = []

    def generate(ids: Any, control: Any, **more: Any) -> Any:
        asked.append((ids, more))
        return iter(events)

    return SimpleNamespace(**vars(SESSION) | {"generate": generate, "asked": asked})


# -- ways of thought -------------------------------------------------------------------------------------------------


def path(branch: int, answer: str | None, finish: str = "eot", bits: float = 2.0, **more: Any) -> ReasonPath:
    return ReasonPath(branch, (step("a", bits), step("b", bits)), " so\x1b\n", answer, finish, **more)


PATHS = (path(0, "4"), path(1, "x" * 50), path(2, None), path(3, None, "cancelled"), path(4, "4", drawn=7))
OUTCOME = VoteOutcome("4", {"4": 2.0, "x" * 50: 1.0}, PATHS, PATHS[0])


def test_paths_and_votes_are_shown(capsys: Captured) -> None:
    for place, each in enumerate((*PATHS[:4], path(5, "a\nb", figures=WALK, scores=(-LN2, -3 * LN2))), 1):
        reason._show_path(each, place)
    reason._show_verdict(OUTCOME, sampled=True)
    reason._show_verdict(replace(OUTCOME, answer=None, votes={}, scores=(1.0,)), sampled=False)
    reason._show_verdict(replace(OUTCOME, answer=None, votes={"4": 0.0}, scores=(1.0,) * 5), sampled=False)
    out, err = capsys.readouterr()
    assert_picture("app/pictures/reason.txt", out + err)


def test_a_verdict_is_an_object() -> None:
    assert reason.verdict_object(OUTCOME) == {
        "answer": "4", "votes": {"4": 2.0, "x" * 50: 1.0}, "tokens": 15,
        "paths": [
            {"text": " so\x1b\n", "answer": each.answer, "logprob": pytest.approx(-4 * LN2), "tokens": 2}
            for each in PATHS
        ],
    }  # fmt: skip
    judged = reason.verdict_object(replace(OUTCOME, scores=(0.5, None, None, None, 1.0)))
    assert [each["score"] for each in judged["paths"]] == [0.5, None, None, None, 1.0]


# -- walks -----------------------------------------------------------------------------------------------------------

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


# -- problems --------------------------------------------------------------------------------------------------------


def estimate(mean: float, n: int = 4) -> Estimate:
    return Estimate(mean, 0.1, bounds=(mean - 0.25, mean + 0.25), n=n)


GAIN = Gain(
    greedy=estimate(0.5), method=estimate(0.9), change=Change(estimate(0.4), 0.01), greedy_tokens=12.34, tokens=123.45,
    unanswered=3, curve=(Spent(1, 10.0, estimate(0.25), estimate(0.3)), Spent(4, 40.0, estimate(0.5), estimate(0.6))),
    plurality=0.755, p=4, flips=Flips(2, 1, 1),
)  # fmt: skip
WAY: Any = SimpleNamespace(method="vote", n=4, verifier=None)


def test_a_gain_is_a_table(capsys: Captured) -> None:
    from collections import Counter

    problems._show(GAIN, WAY)
    alone = replace(
        GAIN, greedy=estimate(1.0, 1), method=estimate(0.0, 1), change=Change(Estimate(-2.0, math.inf, 1, n=1), 1.0),
        curve=(), flips=None, p=1,
    )  # fmt: skip
    problems._show(alone, WAY)
    problems._show(replace(GAIN, unanswered=0, change=Change(Estimate(2.0, 0.1, bounds=(-3.0, 3.0), n=4), 0.5)), WAY)
    problems._show_chains({"cut": estimate(0.5), "shuffled": replace(estimate(0.5), n=0)})
    problems._show_first_wrong(Counter({None: 3, 0: 1, 2: 4}))
    problems._show_first_wrong(Counter())
    assert_picture("app/pictures/problems.txt", capsys.readouterr().out)


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
    assert problems._object(estimate(0.5, 1)) == {"mean": 0.5}
    assert problems._by_step({2: 1, None: 1, 0: 1}) == [None, 0, 2]  # type: ignore[arg-type]


@pytest.mark.parametrize("as_json", [False, True])
def test_a_file_is_told_problem_by_problem(as_json: bool, monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    from collections import Counter

    question = Question("How\n many " + "words " * 20, ("4",))
    tries = [
        Attempt(question, path(0, "4"), OUTCOME), Attempt(question, path(0, "5"), replace(OUTCOME, answer=None)),
        Attempt(question, path(0, None), replace(OUTCOME, answer="7")),
    ]  # fmt: skip
    stop = [False]

    def attempt(session: Any, questions: Any, way: Any, control: RunControl, seed: int, complain: Any) -> Any:
        yield from tries[: seed or 3]
        if stop[0]:
            control.cancel()

    monkeypatch.setattr(problems.problems, "read", lambda file, limit: [question] * 3)
    monkeypatch.setattr(problems.problems, "attempt", attempt)
    monkeypatch.setattr(problems.problems, "gain", lambda done, method: GAIN)
    monkeypatch.setattr(problems.chains, "sensitivity", lambda session, way, done: {"cut": estimate(0.5)})
    monkeypatch.setattr(problems.chains, "first_wrong_steps", lambda done, verifier, complain: Counter({None: 2, 1: 1}))
    way = SimpleNamespace(**vars(WAY) | {"verifier": "v"})

    def show(way: Any, analyse: bool, seed: int = 0) -> str:
        problems.show_problems(
            SESSION, Path("f"), way, Recipe(), seed, lambda *_: None, limit=None, analyse=analyse, as_json=as_json
        )
        return capsys.readouterr().out

    said = show(way, True)
    if as_json:
        told = json.loads(said)
        assert told["changed"]["cut"]["mean"] == 0.5 and told["first_wrong"] == {"none": 2, "2": 1}
        assert "first_wrong" not in json.loads(show(WAY, True)) and json.loads(show(way, False))["changed"] == {}
        return
    words = "How many words words words words words words wor"
    assert said.splitlines()[:3] == [
        f"[1] {words} · 4 right · greedy right", f"[2] {words} · no answer wrong · greedy wrong",
        f"[3] {words} · 7 wrong · greedy no answer",
    ]  # fmt: skip
    assert "chain cut" in said and "no step is wrong" in said
    assert "chain" not in show(way, False) and "no step is wrong" not in show(WAY, True)
    stop[0] = True
    with pytest.raises(SystemExit) as end:
        show(WAY, False, 2)
    assert end.value.code == 130 and capsys.readouterr().err == "likely: stopped after 2 of 3 problems\n"


# -- answers of run --------------------------------------------------------------------------------------------------

LIMITS = Limits(seed=7, max_tokens=20, stop=("s",))
HOW: dict[str, Any] = {"n": 1, "strategy": PLAIN, "as_json": False, "special": False, "quiet": False, "save": None}


def test_one_answer_is_written_as_it_comes(capsys: Captured) -> None:
    events = [Prefilled(9, 9), Emitted(0, step("a")), Emitted(0, step("b", 3.0)), Done(0, "eot", STATS, "!")]
    made = session(*events)
    show_answers(made, [1], RunControl(), LIMITS, **HOW)
    out, err = capsys.readouterr()
    assert out == "ab!\n" and err == (
        "9 prompt tokens (4 reused) in 0.25 s · 5 tokens at 2.0/s · "
        "perplexity 4.00 (predicted 2 of 2 tokens) · eot · seed 7\n"
    )
    assert made.asked == [([1], {"n": 1, "seed": 7, "max_tokens": 20, "stop": ("s",), "strategy": PLAIN})]
    show_answers(session(*events), [1], RunControl(), LIMITS, **HOW | {"quiet": True})
    assert capsys.readouterr().err == ""
    show_answers(session(*events), [1], RunControl(), LIMITS, **HOW | {"as_json": True})
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line.get("text") for line in lines] == ["a", "b", None] and "answer" not in lines[0]
    assert lines[2] == {
        "finish": "eot", "seed": 7, "prompt_tokens": 9, "reused_tokens": 4, "tokens": 5, "prefill_s": 0.25,
        "decode_s": 2.0,
    }  # fmt: skip


def test_several_answers_have_numbers_and_their_own_seeds(
    capsys: Captured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    saved: list[Any] = []
    monkeypatch.setattr(trace_file, "save", lambda traces, path: saved.append((traces, path)))
    events = [
        Emitted(0, step("a", position=9)), Forked(0, 2), Emitted(1, step("b")), Revised(0, 9, step("c", position=9)),
        Pruned(1), Done(2, "stop", STATS, "\x1b"), Emitted(0, step("d", position=10)), Done(0, "cancelled", STATS),
    ]  # fmt: skip
    more = HOW | {"n": 2, "save": tmp_path / "x"}
    with pytest.raises(SystemExit) as end:
        show_answers(session(*events), [1], RunControl(), LIMITS, **more)
    out, err = capsys.readouterr()
    assert end.value.code == 130 and out == "[3]\na␛\n[1]\ncd\n"
    first, second, last = err.splitlines()
    assert first.startswith("[3] 9 prompt tokens") and first.endswith("seed 9") and second.endswith("seed 7")
    assert last == f"likely: stopped; what was drawn is in {tmp_path / 'x'}"
    ((traces, place),) = saved
    assert place == tmp_path / "x" and [(each.seed, each.finish, len(each.steps)) for each in traces] == [
        (7, "cancelled", 2), (9, "stop", 1),
    ]  # fmt: skip
    assert traces[0].prompt == (1,) and traces[0].lexicon.pieces == {1: b"\x01"}
    with pytest.raises(SystemExit):
        show_answers(session(*events), [1], RunControl(), LIMITS, **HOW | {"n": 2, "as_json": True, "quiet": True})
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [line["answer"] for line in lines] == [1, 2, 3, 1, 1] and [line.get("seed") for line in lines] == [
        None,
        None,
        9,
        None,
        7,
    ]


def test_a_rank_that_does_not_lead_saves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: Captured
) -> None:
    saved: list[Any] = []
    monkeypatch.setattr(trace_file, "save", lambda traces, path: saved.append(path))
    made = session(Emitted(0, step("a")), Done(0, "eot", STATS))
    for leads, count in ((False, 0), (True, 1)):
        made = session(Emitted(0, step("a")), Done(0, "eot", STATS))
        made.ranks = SimpleNamespace(leads=leads)
        show_answers(made, [1], RunControl(), LIMITS, **HOW | {"save": tmp_path / "x", "quiet": True})
        assert len(saved) == count
        rated = session(Emitted(0, step("a")), Rated(0, {"score": 1.0}), Done(0, "eot", STATS))
        rated.ranks = SimpleNamespace(leads=leads)
        search: Any = SimpleNamespace(words="beam")
        show_hypotheses(
            rated,
            [1],
            RunControl(),
            LIMITS,
            strategy=search,
            as_json=False,
            special=False,
            quiet=True,
            save=tmp_path / "y",
        )
        assert len(saved) == 2 * count
        del saved[count:]
    assert capsys.readouterr().err == ""


# -- searches --------------------------------------------------------------------------------------------------------


def search(*events: Any, **more: Any) -> None:
    given: dict[str, Any] = {
        "strategy": SimpleNamespace(words="beam 2"),
        "as_json": False,
        "special": False,
        "quiet": False,
    }
    show_hypotheses(session(*events), [1], RunControl(), LIMITS, **given | {"save": None} | more)


def test_a_search_is_shown_best_first(capsys: Captured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    events = [
        Emitted(0, step("a")), Forked(0, 1), Forked(0, 2), Emitted(1, step("\x1b", 2.0)), Pruned(2),
        Rated(0, {"score": -3.0}), Rated(0, {"score": -2.0, "proven": True, "tied": False}),
        Rated(1, {"score": -1.0, **WALK, "inclusion": 0.5}),
        Rated(1, {**WALK, "score": -0.5, "inclusion": 0.5}), Reloaded("wider\nnow"), Done(0, "eot", STATS, "!"),
        Done(1, "length", STATS),
    ]  # fmt: skip
    search(*events)
    both = [*events[:-2], Rated(0, {"score": -2.0, "inclusion": 0.75}), *events[-2:]]
    search(*both)
    out, err = capsys.readouterr()
    assert_picture("app/pictures/search.txt", out + err)
    search(*events, quiet=True)
    assert capsys.readouterr().err == "wider now\n"
    search(*events, as_json=True, quiet=True)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert (
        [line["finish"] for line in lines] == ["length", "eot"]
        and lines[1]["text"] == "a!"
        and lines[0]["ids"] == [97, 27]
    )
    assert lines[1]["logprob"] == pytest.approx(-LN2) and lines[1]["score"] == -2.0 and len(lines[0]["tokens"]) == 2
    saved: list[Any] = []
    monkeypatch.setattr(trace_file, "save", lambda traces, path: saved.extend(traces))
    with pytest.raises(SystemExit) as end:
        search(*events[:-1], Done(1, "cancelled", STATS), save=tmp_path / "x")
    assert end.value.code == 130 and "stopped; what was drawn is in" in capsys.readouterr().err
    assert [(each.finish, len(each.steps), each.seed) for each in saved] == [("cancelled", 2, 7), ("eot", 1, 7)]
    search(Emitted(0, step("a")), Rated(0, {"score": math.inf}), as_json=True)
    told = json.loads(capsys.readouterr().out)
    assert told["score"] == "inf" and told["finish"] == ""


# -- streams of text -------------------------------------------------------------------------------------------------


def test_what_is_typed_is_answered_line_by_line(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    talks: list[Any] = []

    def generate(ids: Any, control: Any, **more: Any) -> Any:
        talks.append((ByteTokenizer().decode(ids), more["seed"]))
        return iter([Emitted(0, step("a")), Done(0, "eot", STATS, "!")])

    made: Any = SimpleNamespace(
        **vars(SESSION) | {"generate": generate, "model": SimpleNamespace(config=SimpleNamespace())}
    )
    typed = b"/redo\nhi\n\n/redo\n/system be\nho\n/new\nhe\n/what now\n/quit\nnever\n"
    monkeypatch.setattr(plain.sys, "stdin", SimpleNamespace(isatty=lambda: False, buffer=io.BytesIO(typed)))
    plain.converse(made, Recipe(), LIMITS, system="sys")
    out, err = capsys.readouterr()
    assert out == "a!\n" * 4
    assert talks == [
        ("s:sys;u:hi;a:", 7), ("s:sys;u:hi;a:", 8), ("s:be;u:ho;a:", 8), ("s:be;u:he;a:", 8),
    ]  # fmt: skip
    assert err == f"there is no answer to draw again yet\nunknown command /what: {plain.HELP}\n"
    talks.clear()
    monkeypatch.setattr(plain.sys, "stdin", SimpleNamespace(isatty=lambda: True, buffer=io.BytesIO(b"hi\nho\n")))
    plain.converse(made, Recipe(), LIMITS)
    out, err = capsys.readouterr()
    assert talks == [("u:hi;a:", 7), ("u:hi;a:a!;u:ho;a:", 7)]
    assert (
        err.startswith(f"m · {plain.HELP}\n> [9 prompt tokens (4 reused)")
        and err.endswith("eot]\n> ")
        and err.count("> ") == 3
    )


def test_a_text_that_is_no_utf_8_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    from engine.errors import DataError

    monkeypatch.setattr(plain.sys, "stdin", SimpleNamespace(isatty=lambda: False, buffer=io.BytesIO(b"a\xff\n")))
    with pytest.raises(DataError, match="standard input must be UTF-8: invalid start byte at byte 1 of a line"):
        plain._read_line(False)


def test_words_are_tinted_as_they_are_drawn(monkeypatch: pytest.MonkeyPatch, capsys: Captured) -> None:
    out = io.StringIO()
    special = replace(step("<", 9.0, special=True), piece=b"<s>", text="")
    events = [
        Emitted(0, step("a", None)),
        Emitted(0, step("b\x1b", 9.0)),
        Emitted(0, special),
        Done(0, "eot", STATS, "\x1b"),
    ]
    steps, done = plain.stream(iter(events), out, special=True)
    assert out.getvalue() == "ab\x1b<s>\x1b" and len(steps) == 3 and done.reason == "eot"
    out = io.StringIO()
    with coloured(monkeypatch, 80):
        plain.stream(iter([Reloaded("wider"), *events]), out)
    assert out.getvalue() == "a\x1b[38;2;255;241;214;48;2;148;86;11mb␛\x1b[0m␛" and capsys.readouterr().err == "wider\n"
    with pytest.raises(AssertionError, match="a run ends with Done"):
        plain.stream(iter(()), out)


def test_long_prompts_are_counted_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()
    said.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(plain.sys, "stderr", said)
    plain.stream(
        iter([Prefilled(9, 2048), Prefilled(9, 2049), Prefilled(2049, 2049), Done(0, "eot", STATS)]), io.StringIO()
    )
    assert said.getvalue() == "\r\x1b[Kreading 9 of 2049 tokens\r\x1b[Kreading 2049 of 2049 tokens\r\x1b[K"


def test_a_loop_is_named() -> None:
    assert [plain.endless(tokens) for tokens in ([1] * 31, [1] * 32, [1, 2] * 16, [1, 2] * 15, [0, *[1] * 32])] == [
        0,
        1,
        2,
        0,
        1,
    ]
    long = list(range(64))
    assert plain.endless(long * 4) == 64 and plain.endless(long * 3) == 0 and plain.endless([*long * 4, 99]) == 0
    assert plain.endless(list(range(65)) * 4) == 0 and plain.endless(list(range(9)) * 4) == 9
    steps = [step("a", None)] * 32
    assert plain.summary(steps, Done(0, "length", STATS)).endswith(
        "5 tokens at 2.0/s · length · repeats its last 1 token without end"
    )
    assert plain.summary([step("a"), step("b")] * 16, Done(0, "length", STATS)).endswith(
        "repeats its last 2 tokens without end"
    )


# -- passes ----------------------------------------------------------------------------------------------------------


def test_an_answer_by_passes_is_told(capsys: Captured, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from engine.diffusion import answering
    from engine.diffusion.unmasking import DenoisingStep, Unmasked, Unmasking

    canvas: Any = SimpleNamespace(ids=(1, 2), mask=9, start=1, masks=2)
    made = [
        DenoisingStep(1, (Unmasked(1, step("a", position=1, elapsed_s=0.5)),), ()),
        DenoisingStep(2, (Unmasked(2, step("b", position=1, elapsed_s=2.0), before=97),), ()),
    ]  # fmt: skip
    found: Any = SimpleNamespace(
        tokens=[step("b", position=1), step("c", position=2)], passes=[2, None], rest="!\x1b", finish="stop",
        revisions=[made[1].unmasked[0]],
    )  # fmt: skip
    asked: list[Any] = []
    monkeypatch.setattr(answering, "answer_canvas", lambda *args, **more: asked.append(more) or canvas)
    monkeypatch.setattr(answering, "answer", lambda *args, **more: iter(made))
    monkeypatch.setattr(answering, "read_answer", lambda *args: asked.append(args[-1]) or found)
    kept: list[Any] = []
    monkeypatch.setattr(diffused, "keep", lambda *args: kept.append(args))
    how = Unmasking(block=4)

    def show(**more: Any) -> None:
        given: dict[str, Any] = {
            "max_tokens": None, "prefill": (3,), "as_json": False, "special": False, "quiet": False, "save": None,
        }  # fmt: skip
        diffused.show_diffused(SESSION, [5, 6, 7], how, Recipe(), LIMITS, **given | more)

    show()
    out, err = capsys.readouterr()
    assert out == "bc!\x1b\n" and err == "3 prompt tokens · 2 tokens in 2 passes at 1.0/s · 1 revised · stop · seed 7\n"
    assert asked == [{"prefill": (3,), "max_tokens": 0, "block": 4}, ("s",)] and kept == []
    show(as_json=True, quiet=True, max_tokens=8, save=tmp_path / "x")
    out, err = capsys.readouterr()
    first, second, last = (json.loads(line) for line in out.splitlines())
    assert (first["position"], first["step"], first["given"], second["step"], second["given"]) == (
        1,
        2,
        False,
        None,
        True,
    )
    assert last == {
        "finish": "stop", "seed": 7, "prompt_tokens": 3, "reused_tokens": 0, "tokens": 2, "prefill_s": 0.0,
        "decode_s": 2.0, "passes": 2, "revisions": [{"position": 1, "step": 2, "from": 97, "to": 98}],
    }  # fmt: skip
    assert err == "" and asked[2]["max_tokens"] == 8 and kept[0][0] == tmp_path / "x" and kept[0][5:] == (7, "stop")
    made.clear()
    show()
    assert "at 0.0/s" in capsys.readouterr().err
    assert answers.trace(SESSION, (1,), (), 3, "eot").model == "m" and hypotheses.Hypothesis().text == ""
