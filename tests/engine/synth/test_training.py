"""Training on made rows, with a stand-in for who trains: which arms, at which tokens, and what a taught model draws."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from zlib import crc32

import pytest

from engine.errors import DataError
from engine.evaluate.estimates import compare, mean, share
from engine.evaluate.evaluation import Result
from engine.evaluate.tasks import Problem, Task
from engine.synth import training
from engine.synth.config import TrainOptions
from engine.synth.training import Arm, TaughtModel, arms, asked, taught
from engine.tune.rows import TrainingRow, parse


def rows_of(*texts: str) -> tuple[TrainingRow, ...]:
    return tuple(
        parse({"prompt": t, "completion": f" {t}!"} if t else {"text": "plain"}, str(i)) for i, t in enumerate(texts)
    )


def test_an_arm_is_a_share_or_a_mean_and_is_above_another_pair_by_pair() -> None:
    one, other = Arm("a", 1, 2, (1.0, 0.0, 1.0)), Arm("b", 1, 2, (0.0, 0.0, 1.0))
    assert one.accuracy == share([1.0, 0.0, 1.0]) and Arm("c", 1, 2, (0.5, 1.0)).accuracy == mean([0.5, 1.0])
    assert one.over(other) == compare(other.values, one.values) and one.over(other).estimate.mean > 0


def test_an_adapter_is_taught_by_the_pipeline_s_options(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    calls: list[Any] = []
    monkeypatch.setattr(training, "teach", lambda *given, **how: calls.append((given, how)) or ("opened", 7))
    options = TrainOptions(steps=9, rate=0.5, rank=3, batch=5, length=77, seed=4)
    assert taught("base", rows_of("a"), options, tmp_path, tokens=99) == ("opened", 7)  # type: ignore[arg-type, comparison-overlap]
    ((checkpoint, config, rows), how) = calls[0]
    assert (checkpoint, rows, how) == ("base", rows_of("a"), {"tokens": 99})
    assert (config.out, config.steps, config.rate, config.rank, config.batch) == (str(tmp_path), 9, 0.5, 3, 5)
    assert (config.valid, config.loss, config.eval_every, config.save_every) == (0.0, "completion", 0, 0)
    assert (config.packing, config.seed, config.length) == (False, 4, 77)
    taught("base", (), options, tmp_path)  # type: ignore[arg-type]
    assert calls[1][1] == {"tokens": 0}


def test_items_are_asked_in_their_order_by_the_first_measure(monkeypatch: pytest.MonkeyPatch) -> None:
    outcomes = [Result(2, None, {"acc": 0.5, "x": 9.0}), Problem(1, "empty", ""), Result(0, None, {"acc": 1.0})]
    seen: list[Any] = []
    monkeypatch.setattr(training, "evaluate", lambda *given: seen.append(given) or outcomes)
    task = Task("t", lambda: iter(()), "t")
    assert asked("arm", "s", task, 3, 40) == Arm("arm", 3, 40, (1.0, 0.5))  # type: ignore[arg-type]
    assert seen == [("s", task, training.GREEDY)]
    outcomes[:] = [outcomes[1]]
    with pytest.raises(DataError, match="t: no item of it can be asked"):
        asked("arm", "s", task, 3, 40)  # type: ignore[arg-type]


def test_arms_are_the_base_and_each_set_at_the_first_one_s_tokens(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    calls: list[Any] = []

    def trained(checkpoint: Any, rows: Any, options: Any, folder: Path, *, tokens: int = 0) -> Any:
        calls.append((len(rows), folder, tokens))
        return SimpleNamespace(run=SimpleNamespace(session=f"taught {len(rows)}")), 100 * len(rows)

    monkeypatch.setattr(training, "taught", trained)
    monkeypatch.setattr(training, "Session", lambda checkpoint, reload: ("session", checkpoint, reload))
    monkeypatch.setattr(training, "asked", lambda *given: given)
    sets = {"real": rows_of("a", "b"), "made": rows_of("c"), "both": rows_of("a", "b", "c")}
    found = list(arms("base", sets, "task", TrainOptions(), tmp_path))  # type: ignore[arg-type]
    assert calls == [(2, tmp_path / "real", 0), (1, tmp_path / "made", 200), (3, tmp_path / "both", 200)]
    assert found == [
        ("base", ("session", "base", False), "task", 0, 0),
        ("real", "taught 2", "task", 2, 200),
        ("made", "taught 1", "task", 1, 100),
        ("both", "taught 3", "task", 3, 300),
    ]  # type: ignore[comparison-overlap]


class GivenWriter:
    """A writer that says the prompt, its seed and the number of the path."""

    def __init__(self, session: Any = None) -> None:
        self.session, self.drawn = session, []  # type: ignore[var-annotated]

    def prompt(self, text: str) -> str:
        return f"asked {text}"

    def draw(self, prompt: Any, n: int, seed: int, stop: Any) -> list[Any]:
        self.drawn.append((prompt, n, seed, stop))
        return [SimpleNamespace(text=f" {n} {i}") for i in range(n)]


def test_a_taught_model_draws_as_many_answers_to_each_prompt_as_there_are(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    own: list[Any] = []
    tokenizer = SimpleNamespace(bos=5, end=6)
    opened = SimpleNamespace(run=SimpleNamespace(session=SimpleNamespace(tokenizer=tokenizer)))
    monkeypatch.setattr(training, "taught", lambda *given: own.append(given) or (opened, 9))
    writer = GivenWriter()
    monkeypatch.setattr(training, "replace", lambda w, session: setattr(w, "session", session) or w)
    model = TaughtModel("base", TrainOptions(), writer, tmp_path, ("\n",))  # type: ignore[arg-type]
    model.fit(rows_of("a", "b", "a", ""))
    found = model.draw(6, 3)
    assert own == [("base", rows_of("a", "b", "a", ""), TrainOptions(), tmp_path)]
    assert writer.session is opened.run.session
    seeds = [crc32(f"3 {number} 0".encode()) >> 1 for number in range(3)]
    beginning = writer.drawn[2][0]
    assert beginning.parts == ((5,),) and beginning.whole
    assert writer.drawn == [
        ("asked a", 3, seeds[0], ("\n",)), ("asked b", 2, seeds[1], ("\n",)), (beginning, 1, seeds[2], ("\n",))
    ]  # fmt: skip
    assert found == [
        *(parse({"prompt": "a", "completion": f" 3 {i}"}, "made") for i in range(3)),
        *(parse({"prompt": "b", "completion": f" 2 {i}"}, "made") for i in range(2)),
        parse({"text": " 1 0"}, "made"),
    ]
    writer.drawn.clear()
    model.fit(rows_of("a"))
    assert len(model.draw(130, 1)) == 130
    assert [(n, seed) for _, n, seed, _ in writer.drawn] == [
        (n, crc32(f"1 0 {low}".encode()) >> 1) for low, n in ((0, 64), (64, 64), (128, 2))
    ]


@pytest.mark.parametrize(
    ("bos", "end", "parts"),
    [(5, 6, ((5,),)), (0, 6, ((0,),)), (None, 6, ((6,),)), (None, 0, ((0,),)), (None, None, ("\n",))],
)
def test_a_text_begins_after_a_token_or_a_line(bos: int | None, end: int | None, parts: tuple[object, ...]) -> None:
    session: Any = SimpleNamespace(tokenizer=SimpleNamespace(bos=bos, end=end))
    found = training._beginning(session)
    assert found.parts == parts and found.whole is True
