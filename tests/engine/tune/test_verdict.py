"""What a training says of itself at its end, against answers drawn and log-probabilities added up a second way."""

import json
import math
from pathlib import Path

import numpy as np
import pytest

from likely.app.results.training_verdict import advice, lines, sentence
from likely.engine.base.errors import DataError, ParameterError
from likely.engine.base.statistics.estimates import wilson
from likely.engine.decode.loop.control import RunControl
from likely.engine.decode.loop.texts import texts_of
from likely.engine.decode.prompt import single_turn
from likely.engine.decode.session import Session
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.train.assess.examination import OTHERS, examine, examined
from likely.engine.train.control import TrainControl
from likely.engine.train.open_run import Tuning, open_run
from likely.engine.train.run.trainer import Ended, train
from likely.engine.train.tuned_models import open_model
from likely.engine.train.verdict import OtherAnswers, Reply, RowChange, TrainingVerdict, row_change
from likely.engine.weights.adapters.config import Config, configure
from likely.engine.weights.sources.checkpoint import load
from tests.engine import tiny

ROWS = [{"prompt": f"tag {i}", "completion": "<ab>" if i % 2 else f"<{i}>"} for i in range(12)]


def opened(folder: Path, rows: list[dict[str, str]] = ROWS, resume: bool = False, **options: object) -> Tuning:
    """A run on a random model, of rows whose first ones are tested, too."""
    model = tiny.random_folder(folder / "model", times=6)
    for name, some in (("rows", rows), ("test", rows[:4])):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in some))
    how = {"model": str(model), "data": str(folder / "rows.jsonl"), "test": str(folder / "test.jsonl"), "rate": 0.03,
           "valid": 0.0, "length": 48, "steps": 60, "eval_every": 0, "save_every": 0, "out": str(folder / "out"),
           **options}  # fmt: skip
    return open_run(configure(how), lambda *_: None, resume=resume)


def answered(session: Session, prompt: str, tokens: int) -> list[int]:
    session.forget()
    ids = single_turn(prompt, session.tokenizer).ids(session.tokenizer)
    (text,) = texts_of(session.generate(ids, RunControl(SamplingConfig(greedy=True)), max_tokens=tokens))
    return text.ids


@pytest.mark.slow
@pytest.mark.parametrize("how", [{}, {"kind": "full", "rate": 0.01, "steps": 30}], ids=["lora", "full"])
def test_a_verdict_is_what_drawing_every_answer_says(how: dict[str, object], tmp_path: Path) -> None:
    """Before: the model alone; now: the adapter's folder on a model loaded anew. Rows drawn, others read in float64."""
    run = opened(tmp_path, **how).run  # type: ignore[arg-type]
    told = list(examined(train(run), run, TrainControl()))
    verdict = told[-2]
    assert isinstance(verdict, TrainingVerdict) and told[-1] == Ended("done", run.steps)
    sides = [Session(load(run.config.model)), Session(open_model(run.config.out))]
    for part, samples in ((verdict.trained, run.rows.train), (verdict.held, run.rows.test)):
        assert isinstance(part, RowChange)
        right = []
        for session in sides:
            starts = [sample.trained.index(True) for sample in samples]
            drawn = [
                [*answered(session, ROWS[i]["prompt"], len(sample.ids) - start)] == [*sample.ids[start:]]
                for i, (sample, start) in enumerate(zip(samples, starts, strict=True))
            ]
            right.append(sum(drawn))
        assert part.counts == tuple(right) and right[0] == 0 < right[1]
        assert part.right.interval == pytest.approx(wilson(right[1] / len(samples), len(samples)))
        nats = [[-log_p(session, s.ids, s.trained) for s in samples] for session in sides]
        targets = [s.targets for s in samples]
        for losses, estimate in zip(nats, (part.loss_before, part.loss), strict=True):
            assert estimate.mean == pytest.approx(sum(losses) / sum(targets), abs=1e-4)
        rise = np.mean([(b - a) / n for a, b, n in zip(*nats, targets, strict=True)])
        assert part.cost.estimate.mean == pytest.approx(rise, abs=1e-4)
    others = verdict.others
    assert others is not None and [reply.question for reply in others.replies] == [question for question, _ in OTHERS]
    worded, regrets, kls = 0, [], []
    for question, _ in OTHERS:
        before, now = (answered(session, question, 16) for session in sides)
        worded += before != now
        start = single_turn(question, sides[0].tokenizer).ids(sides[0].tokenizer)
        p, q = (law(session, [*start, *before])[len(start) - 1 : -1] for session in sides)
        kls += (np.exp(q) * (q - p)).sum(-1).tolist()
        own = law(sides[0], [*start, *now])[len(start) - 1 : -1]
        regrets.append(float((own.max(-1) - own[range(len(now)), now]).sum()))
    assert others.worded == worded > 0 and others.kl.mean == pytest.approx(np.mean(kls), rel=1e-3)
    assert [reply.regret for reply in others.replies] == pytest.approx(regrets, abs=1e-3)
    assert others.count == sum(regret > 3 * math.log(2) for regret in regrets) > 0
    assert [reply.now == reply.wanted for reply in verdict.tested] == [reply.right[1] for reply in verdict.tested]


def law(session: Session, ids: list[int]) -> np.ndarray:
    """Log-probabilities [T, V] in float64 after each token."""
    logits = np.array([session.logits_after(ids[: i + 1]) for i in range(len(ids))], np.float64)
    return logits - np.logaddexp.reduce(logits, axis=-1, keepdims=True)


def log_p(session: Session, ids: tuple[int, ...], trained: tuple[bool, ...]) -> float:
    rows = law(session, list(ids[:-1]))
    return float(sum(rows[i, token] for i, (token, of) in enumerate(zip(ids[1:], trained[1:], strict=True)) if of))


def test_a_verdict_is_one_sentence_and_names_what_to_change() -> None:
    def rows(of: int, right: int, before: int = 0, cost: float = 0.1, form: str = "words") -> RowChange:
        return row_change(of, form, scores(of, before, 3.0), scores(of, right, cost))

    def scores(of: int, right: int, cost: float) -> list[tuple[float, float, int, bool]]:
        return [(4 * cost, 4 * cost**2, 4, i < right) for i in range(of)]

    replies = tuple(Reply(f"{i}?", "", "a", "b" if i < 5 else "a", (True, True), 9.0 * (i < 2)) for i in range(24))
    same = rows(24, 24).right
    others = OtherAnswers(replies, rows(24, 2).right, same, same, same, rows(24, 24).rise)
    learned = TrainingVerdict(100, rows(60, 52), rows(15, 12), others)
    told = "learned 52 of 60 rows, 12 of 15 held out (0 before); 2 of 24 other answers changed, 3 worded otherwise"
    assert sentence(learned) == told and not [*advice(learned, Config(rate=1e-3), [])]
    for trained, held, line in (
        (rows(60, 9, cost=2.0), None, "hardly begun to learn its rows: likely tune a --rate 0.003 --out adapter-2"),
        (rows(60, 9, cost=0.4), None, "still learning its rows: likely tune --out adapter --resume --epochs 16"),
        (rows(60, 55), rows(15, 1), "by heart and not what they say: likely tune a --init contrast --rank 32 --out"),
    ):
        (said,) = advice(
            TrainingVerdict(100, trained, held, None), Config(rate=1e-3, epochs=8.0, init="zero"), ["tune", "a"]
        )
        assert line in said
    lost = OtherAnswers(replies, rows(24, 9).right, same, same, same, rows(24, 24).rise)
    for init, pull, way in (("zero", 0.0, "--init contrast --rank 32"), ("contrast", 3.0, "--rehearsal 9")):
        how = Config(init=init, rehearsal=pull)
        (said,) = advice(TrainingVerdict(100, rows(60, 55), None, lost), how, ["tune", "a"])
        assert f"likely tune a {way} --out adapter-2" in said
    ranked, not_yet = (rows(9, n, cost=4.0, form="pairs") for n in (8, 2))  # ranked, though dearer than before
    for pairs, beta in ((ranked, "0.5"), (not_yet, "0.02")):
        *_, said = advice(TrainingVerdict(100, pairs, None, lost), Config(objective="dpo"), ["tune", "a"])
        assert f"likely tune a --beta {beta} --out adapter-2" in said
    texts = TrainingVerdict(
        9, rows(5, 0, cost=math.log(2), form="texts"), rows(2, 0, cost=math.log(4), form="texts"), None
    )
    assert (
        sentence(texts) == "reads its rows at 1.00 bits a token (before 4.33), 2.00 bits a token (before 4.33) held out"
    )
    assert sentence(TrainingVerdict(9, rows(8, 6, form="pairs"), None, None)) == "ranks 6 of 8 pairs"


@pytest.mark.slow
def test_a_run_that_has_hardly_begun_tries_a_higher_rate_and_is_as_it_was(tmp_path: Path) -> None:
    how = {"rehearsal": 0.0, "layers": -1, "rank": 8, "test": ""}
    run = opened(tmp_path, rate=1e-4, steps=90, **how).run
    list(train(run))
    before = {name: np.array(a) for name, a in run.trained.parameters().items()}
    (*_, verdict) = examine(run)
    assert isinstance(verdict, TrainingVerdict) and verdict.trial is not None
    other = opened(tmp_path / "other", rate=3e-4, steps=30, **how).run  # the same, trained by itself
    list(train(other))
    (*_, same) = examine(other)
    assert isinstance(same, TrainingVerdict) and same.trial is None  # of 30 steps it would be the whole again
    assert verdict.trial.loss == pytest.approx(same.trained.loss.mean, rel=1e-5) and verdict.trial.steps == 30
    assert all(np.array_equal(a, before[name]) for name, a in run.trained.parameters().items())
    (*_, again) = examine(run)
    assert again == verdict
    costs = [f"{nats / math.log(2):.2f}" for nats in (verdict.trained.loss_before.mean, verdict.trial.loss)]
    assert f"tried     rate 0.0003: {costs[0]} -> {costs[1]} bits a token of its rows in 30 steps" in [*lines(verdict)]
    assert "--rate 0.0003 --out adapter-2" in next(advice(verdict, run.config, ["tune", "a"]))


def test_rows_of_a_test_are_read_before_the_model_and_of_the_form_of_the_others(tmp_path: Path) -> None:
    (tmp_path / "pairs.jsonl").write_text('{"prompt": "a", "chosen": "b", "rejected": "c"}\n')
    for test, error, line in (("pairs", DataError, "does not fit these rows"), ("none", DataError, "there is no")):
        with pytest.raises(error, match=line):
            opened(tmp_path, test=str(tmp_path / f"{test}.jsonl"))
    with pytest.raises(ParameterError, match="test needs verdict"):
        configure({"test": "x.jsonl", "verdict": False})


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["mdlm", "dpo"])
def test_pairs_are_ranked_and_what_has_no_next_token_has_no_verdict(objective: str, tmp_path: Path) -> None:
    pairs = [{"prompt": f"p{i}", "chosen": f"yes {i}", "rejected": f"no {i}"} for i in range(6)]
    run = opened(tmp_path, pairs if objective == "dpo" else ROWS, objective=objective, steps=3).run
    list(train(run))
    pieces = list(examine(run))
    if objective == "dpo":
        assert isinstance(found := pieces[-1], TrainingVerdict) and found.trained.form == "pairs" and not found.tested
    assert bool(pieces) == (objective == "dpo")
    stopped = TrainControl(stopped=True)
    assert list(examined(iter([Ended("done", 3)]), run, stopped)) == [Ended("done", 3)]
