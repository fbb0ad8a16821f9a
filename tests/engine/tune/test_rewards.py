"""Learning from rewards: what is drawn is what is trained, what teaches nothing changes nothing, and a kill nothing."""

import hashlib
import json
import re
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from likely.app.cli import likely
from likely.app.jobs.local_trainer import LocalTrainer
from likely.app.words.reward_text import warning
from likely.engine.base.errors import DataError, ParameterError
from likely.engine.decode.answers.vote import pass_at
from likely.engine.measure.evaluate.tasks.generated import generated
from likely.engine.measure.evaluate.tasks.problems import read as read_problems
from likely.engine.measure.evaluate.tasks.tasks import Item
from likely.engine.train.assess.forecast import whole_lengths
from likely.engine.train.control import Ended
from likely.engine.train.data.data import read as read_rows
from likely.engine.train.data.samples import TrainingSample
from likely.engine.train.losses.row_scores import target_losses
from likely.engine.train.open_run import open_run
from likely.engine.train.rewards.figures import HeldOut, Rewarded, Rollout, held_out
from likely.engine.train.rewards.futility import unfit
from likely.engine.train.rewards.reward_history import RewardWarning
from likely.engine.train.run import rollouts
from likely.engine.train.run.metrics import read
from likely.engine.train.run.run import TrainingRun
from likely.engine.train.run.trainer import train
from likely.engine.train.saved_options import options
from likely.engine.weights.adapters.config import configure
from likely.engine.weights.adapters.sites import trainable
from likely.metal import mx
from tests import processes
from tests.engine import tiny

# right where the answer is e, which a model says half of the time
JUDGE = "import json, sys; print(float(json.loads(sys.stdin.readline())['said'].strip() == 'e'))"
# the same, and by chance a little more, which it notes in a file; or what stands in a second one
CHANCE = """
import json, random, sys
asked = json.loads(sys.stdin.readline())
key = [asked["prompt"], asked["said"]]
notes = [json.loads(line) for line in open(sys.argv[2])] if len(sys.argv) > 2 else []
known = next((note[2] for note in notes if note[:2] == key), None)
verdict = (key[1].strip() == "e") + random.random() / 4 if known is None else known
open(sys.argv[1], "a").write(json.dumps([*key, verdict]) + "\\n")
print(verdict)
"""
SAME = "import sys; sys.stdin.readline(); print(0.3)"
# right about the right answer, and of no opinion about others
NONE = "import json, sys; said = json.loads(sys.stdin.readline())['said']; print(1) if said == 'e' else sys.exit('no')"
Rows = list[dict[str, str]]
ROWS: Rows = [{"prompt": f"say {i}", "completion": "e"} for i in range(6)]


def written(path: Path, rows: Rows) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One that says e or o, and ends."""
    folder = tmp_path_factory.mktemp("two")
    both = written(folder / "both.jsonl", [{**row, "completion": letter} for row in ROWS for letter in "eo"])
    words = ["tune", str(both), "-M", str(tiny.random_folder(folder / "random", times=6)), "--out", str(folder / "a"),
             "--rank", "8", "--rate", "0.02", "--steps", "60", "--valid", "0", "--no-verdict",
             "--rehearsal", "0"]  # fmt: skip
    for each in (words, ["fuse", str(folder / "a"), "--out", str(folder / "model")]):
        done = CliRunner().invoke(likely, each)
        assert done.exit_code == 0, done.output
    return folder / "model"


def opened(
    folder: Path, model: Path, judge: str = JUDGE, resume: bool = False, rows: Rows = ROWS, reads: Any = read_rows,
    **options: Any,
) -> TrainingRun:  # fmt: skip
    (folder / "judge.py").write_text(judge)
    how = {"model": str(model), "data": str(written(folder / "rows.jsonl", rows)), "objective": "reward", "valid": 0.0,
           "answers": 8, "batch": 2, "tokens": 8, "rate": 0.01, "steps": 4, "save_every": 0, "out": str(folder / "out"),
           "schedule": "constant", "look_first": 0, "verifier": f"{sys.executable} -S {folder / 'judge.py'}",
           **options}  # fmt: skip
    return open_run(configure(how), lambda *_: None, resume=resume, read=reads).run


@pytest.mark.slow(3)
def test_what_is_drawn_is_what_is_trained(model: Path, tmp_path: Path) -> None:
    """The ids, and before the first update the log-probabilities that they were drawn with."""
    run = opened(tmp_path, model)
    row = run.rows.train[0]
    assert isinstance(row, TrainingSample)
    each = rollouts.problem(run, row)
    assert (each.prompt, each.answer) in {(row["prompt"], "e") for row in ROWS}
    of = {one.ids: one for one in rollouts.draw(run, each, 8, (1, 0))}
    assert {one.text for one in of.values() if one.right} <= {"e"} and len(of) > 1
    items, draw = rollouts.rewarded(run, 1, [0])
    figures = rollouts.figures(1, [draw])
    assert 0 < figures.reward < 1 and figures.groups == (0, 1, 0) and abs(figures.kl) < 1e-3
    assert items and {item.ids[len(each.ids) :] for item in items} <= {*of}
    for item, (lost, _) in zip(items, target_losses(trainable(run.base), items, run.config), strict=True):
        drawn = of[item.ids[len(each.ids) :]]
        assert -lost.sum() == pytest.approx(drawn.logprob, abs=2e-4)
        assert (item.weight > 0) == drawn.right
    assert sum(item.weight for item in items) == pytest.approx(0, abs=1e-9)
    told = [e for e in train(opened(tmp_path, model, accumulate=2, steps=1)) if isinstance(e, Rewarded)]
    assert [sum(event.groups) for event in told] == [4]  # of all batches of the step


def notes(path: Path) -> list[list[Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


@pytest.mark.slow(6)
def test_rewards_rise_and_a_run_that_goes_on_ends_in_the_same_bytes_and_asks_nothing_twice(
    model: Path, tmp_path: Path
) -> None:
    """Left two steps behind a checkpoint, with its last lines torn; then the verdicts that it was given, to a run that
    is left alone."""
    first = f"{sys.executable} -S {tmp_path / 'judge.py'} {tmp_path / 'first'}"
    how = {"steps": 16, "save_every": 4, "out": str(tmp_path / "parts"), "verifier": first}
    for event in (begun := train(opened(tmp_path, model, CHANCE, **how))):
        if isinstance(event, Rewarded) and event.step == 6:
            begun.close()
    for file in ("verdicts.jsonl", "rollouts.jsonl", "metrics.jsonl"):
        with open(tmp_path / "parts" / file, "a") as torn:
            torn.write('{"of": "1')
    told = list(train(opened(tmp_path, model, CHANCE, resume=True, **how)))
    asked = [note[:2] for note in notes(tmp_path / "first")]
    assert len(asked) == len({*map(tuple, asked)})
    again = {"verifier": f"{sys.executable} -S {tmp_path / 'judge.py'} {tmp_path / 'other'} {tmp_path / 'first'}"}
    whole = list(train(opened(tmp_path, model, CHANCE, **how | again | {"out": str(tmp_path / "whole")})))
    assert sorted(notes(tmp_path / "other")) == sorted(notes(tmp_path / "first"))
    for file in ("adapters.safetensors", "rollouts.jsonl"):
        one, other = ((tmp_path / name / file).read_bytes() for name in ("parts", "whole"))
        assert one == other, file
    assert {json.loads(line)["step"] for line in one.decode().splitlines()} == {*range(1, 17)}
    assert isinstance(told[-1], Ended)
    rewards = [event.reward for event in whole if isinstance(event, Rewarded)]
    assert np.mean(rewards[-4:]) > np.mean(rewards[:4]) + 0.2


RANK = """
import os, sys
from pathlib import Path
from likely.engine.base.distributed.launch import launched
from likely.engine.base.distributed.together import join
from likely.engine.train.run.trainer import train
from tests.engine.tune.test_rewards import CHANCE, digest, opened
both = join(launched(), lambda end: os._exit(1))
folder, model = Path(sys.argv[1]) / os.environ["MLX_RANK"], Path(sys.argv[2])
folder.mkdir()
run = opened(folder, model, CHANCE, **eval(sys.argv[3]))
list(train(run))
print(digest(run), [(one.where, one.ids, one.reward) for one in run.drawn])
both.finish()
"""


def digest(run: TrainingRun) -> str:
    """Of the adapter, to the bit."""
    parts = sorted((name, np.array(value).tobytes()) for name, value in run.trained.parameters().items())
    return hashlib.sha256(repr(parts).encode()).hexdigest()


@pytest.mark.slow(6)
def test_ranks_share_what_is_drawn_and_have_the_same_adapter(model: Path, tmp_path: Path) -> None:
    """Two batches of three problems a step by two ranks, so that their shares differ, and two updates by each step's
    answers; with the verdicts of a run alone, which are asked for once between them."""
    how: dict[str, Any] = {
        "steps": 3, "batch": 3, "accumulate": 2, "reuse": 2, "kl": 0.1, "optimiser": "sgd", "rate": 0.5,
    }  # fmt: skip

    def judge(*files: str) -> str:
        return " ".join([sys.executable, "-S", str(tmp_path / "judge.py"), *(str(tmp_path / file) for file in files)])

    alone = opened(tmp_path, model, CHANCE, **how, verifier=judge("alone"))
    list(train(alone))
    more = {"out": str(tmp_path / "both"), "verifier": judge("shared", "alone")}
    both = processes.finish(processes.start(2, tmp_path, ["-c", RANK, str(tmp_path), str(model), repr(how | more)]))
    assert [code for code, _, _ in both] == [0, 0], both
    assert both[0][1] == both[1][1]
    asked = [note[:2] for note in notes(tmp_path / "shared")]
    assert len(asked) == len({*map(tuple, asked)})
    lines = [[json.loads(line) for line in (tmp_path / name / "rollouts.jsonl").read_text().splitlines()]
             for name in ("out", "both")]  # fmt: skip
    for one, other in zip(*lines, strict=True):
        assert [one[key] for key in ("step", "where", "ids", "reward")] == [
            other[key] for key in ("step", "where", "ids", "reward")
        ]
    two = mx.load(str(tmp_path / "both" / "adapters.safetensors"))
    for name, value in mx.load(str(tmp_path / "out" / "adapters.safetensors")).items():  # type: ignore[union-attr]
        assert np.array(two[name]) == pytest.approx(np.array(value), abs=1e-5), name  # type: ignore[index, call-overload]


@pytest.mark.slow(1)
def test_an_option_of_rewards_makes_another_training(model: Path, tmp_path: Path) -> None:
    others = {"": 0, "advantage": "std", "share": "each", "kl": 0.5, "answers": 6, "tokens": 2, "reuse": 3}
    found = {}
    for name, value in others.items():
        folder, option = tmp_path / f"as-{name}", {name: value} if name else {}
        list(train(opened(tmp_path, model, steps=2, verifier="", out=str(folder), **option)))
        found[name] = (folder / "adapters.safetensors").read_bytes()
    assert [name for name in others if name and found[name] == found[""]] == []


@pytest.mark.slow(2)
def test_equal_rewards_leave_the_adapter_as_it_was_bit_for_bit(model: Path, tmp_path: Path) -> None:
    run = opened(tmp_path, model, SAME, steps=3, tokens=64)
    before = {name: np.array(value) for name, value in run.trained.parameters().items()}
    told = list(train(run))
    assert told[0] == RewardWarning(0, "verdicts", 0.3, 0.3) and "verdict was 0.3" in warning(told[0])
    assert {event.groups for event in told if isinstance(event, Rewarded)} == {(2, 0, 0)}
    assert all(np.array_equal(np.array(value), before[name]) for name, value in run.trained.parameters().items())


@pytest.mark.slow(1)
def test_problems_of_a_task_are_asked_as_eval_asks_them_and_judged_by_its_scorers(model: Path, tmp_path: Path) -> None:
    """With the examples before them, outside any template, and to where an answer ends."""
    name = "arithmetic:items=8,size=1,shots=1"
    task = generated(name)
    assert task is not None
    run = opened(tmp_path, model, data=name, verifier="", reads=read_problems, length=256)
    asked = {item.body.prompt: item.body for item in task.items() if isinstance(item, Item)}  # type: ignore[union-attr]
    problems = [rollouts.problem(run, row) for row in run.rows.train]  # type: ignore[arg-type]
    assert {each.prompt for each in problems} == {*asked}
    for each in problems:
        right = asked[each.prompt].answers[0]  # type: ignore[union-attr]
        said = [right.rpartition(" ")[2], f"{right}1", ""]
        assert [run.verdicts.of(each, said)[text] for text in said] == [1, 0, 0]
    (tmp_path / "task.toml").write_text(
        'data = "rows.jsonl"\nprompt = "{prompt}"\nanswer = "{completion}"\nstop = ["e"]\nscorer = "regex"\n'
        "pattern = '^(.?)$'\n"
    )
    run = opened(tmp_path, model, data=str(tmp_path / "task.toml"), verifier="", reads=read_problems)
    row = run.rows.train[0]
    assert isinstance(row, TrainingSample) and run.session is not None
    texts = rollouts.draw(run, rollouts.problem(run, row), 16, (1, 0))
    written = [b"".join(map(run.session.tokenizer.piece, one.ids)).decode(errors="replace") for one in texts]
    assert any("e" in text for text in written) and not any("e" in one.text for one in texts)


@pytest.mark.parametrize(
    ("data", "objective", "line"),
    [
        ("markov:items=4", "reward", "its documents are scored by their probability"),
        ("arithmetic:items=4", "sft", "arithmetic:items=4 is a task, whose problems are learned by --objective reward"),
    ],
)
def test_a_task_that_rewards_cannot_be_had_of_is_refused(data: str, objective: str, line: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=line):
        open_run(configure({"data": data, "objective": objective}), read=read_problems)


@pytest.mark.slow(1)
def test_a_verifier_that_fails_stops_the_run(model: Path, tmp_path: Path) -> None:
    """And once it is mended the run goes on, and asks again."""
    with pytest.raises(
        DataError, match=r"step 1: the verifier gave no verdict on \d+ of 16 answers \(.*ended with 1: no"
    ):
        list(train(opened(tmp_path, model, NONE)))
    assert isinstance([*train(opened(tmp_path, model, steps=1))][-1], Ended)


@pytest.mark.slow(2)
@pytest.mark.parametrize(
    ("judge", "line"),
    [
        ("print(0.5)", r"an empty answer is judged right \(0.5\)"),
        ("print(float(said[:4] == 'say '))", "the problem itself is judged right"),
        ("print(float('7' in said))", "every number to 100 is judged right"),
        ("print(float(said in ('e', 'o')))", "the answer to another problem is judged right"),
        ("print(float('boxed' in said))", r"the bare form .boxed\{\} is judged right"),
        ("sys.exit('not now')", "the verifier ended with 1: not now; it was asked about the right answer"),
    ],
)
def test_a_verifier_that_is_fooled_is_told_before_anything_is_learned(
    judge: str, line: str, model: Path, tmp_path: Path
) -> None:
    read = "import json, sys; said = json.loads(sys.stdin.readline())['said']; "
    rows = [{**row, "completion": letter} for row, letter in zip(ROWS, "eo" * 3, strict=True)]
    with pytest.raises(DataError, match=line):
        next(train(opened(tmp_path, model, read + judge, rows=rows)))


@pytest.mark.slow(2)
def test_a_training_whose_answers_are_all_worth_the_same_does_not_begin(model: Path, tmp_path: Path) -> None:
    run = opened(tmp_path, model, SAME, steps=4, look_first=8)
    with pytest.raises(DataError, match=r"of 8 problems tried first 0 had .* easier problems .*--look-first 0"):
        list(train(run))
    assert not list((tmp_path / "out").glob("*.safetensors"))
    short = opened(tmp_path, model, SAME, steps=3, look_first=8)  # it would draw fewer in all
    assert isinstance(list(train(short))[-1], Ended)


@pytest.mark.parametrize(
    ("rewards", "cut", "line"),
    [
        ([[0.0] * 8] * 30 + [[0.0] * 7 + [1.0]] * 2, False, ""),
        ([[0.0] * 8] * 31 + [[0.0] * 7 + [1.0]], True, "a larger --tokens (100% were cut by it)"),
        ([[1.0] * 8] * 20 + [[0.0] * 8] * 12, False, "0 had answers of different worth, and 62% of the answers"),
        ([[1.0] * 8] * 26 + [[0.0, *[1.0] * 7]] * 6, False, "harder problems"),
        ([[0.2, 0.4, 0.2, None]] * 32, False, ""),  # graded: it is told apart
    ],
)
def test_what_is_tried_first_says_whether_there_is_something_to_learn(
    rewards: list[list[float | None]], cut: bool, line: str
) -> None:
    groups = [[Rollout("", (1,), "", value, 0.0, 0.0, cut) for value in group] for group in rewards]
    assert line in unfit(groups) and bool(unfit(groups)) == bool(line)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"kind": "full"}, "trains an adapter"),
        ({"dropout": 0.1}, "without dropout"),
        ({"objective": "sft"}, "answers goes with objective = reward|tokens goes with objective = reward"),
        ({"expert": 2}, "expert is compared on held-out problems: give test, or valid above 0"),
        ({"verifier": "/none/check"}, "cannot start the verifier /none/check: there is no such program"),
        ({"label_smoothing": 0.1}, "label_smoothing goes with objective = sft"),
        ({"tokens": 99_999_999}, "stands behind its problem in a context of .*: expected fewer, got 99,999,999"),
    ],
)
def test_what_rewards_cannot_honour_is_refused(options: dict[str, Any], line: str, model: Path, tmp_path: Path) -> None:
    with pytest.raises(ParameterError, match=line):
        opened(tmp_path, model, **options)


def test_the_length_of_whole_answers_is_told_by_their_beginnings() -> None:
    random, limit, begun = np.random.default_rng(3), 400, 40
    ends = random.geometric(1 / 100, 20_000)
    lengths, cut = np.minimum(ends, begun), ends > begun
    told = whole_lengths(lengths.tolist(), cut.tolist(), limit)
    assert np.mean(told) == pytest.approx(np.minimum(ends, limit).mean(), rel=0.02)
    assert whole_lengths([5, 8], [False, False], 8) == [5, 8] and whole_lengths([4, 4], [True, True], 9) == [9, 9]


@pytest.mark.slow(2)
def test_a_run_that_goes_on_from_an_adapter_is_compared_with_that(model: Path, tmp_path: Path) -> None:
    list(train(opened(tmp_path, model, steps=2, layers=-1, rank=4, out=str(tmp_path / "first"))))
    how = {"layers": -1, "rank": 4, "warm_start": str(tmp_path / "first"), "steps": 3}
    run, fresh = opened(tmp_path, model, **how), opened(tmp_path, model, out=str(tmp_path / "fresh"))
    each = rollouts.problem(run, run.rows.train[0])  # type: ignore[arg-type]
    sides = [rollouts.draw(run, each, 8, (1, 0), base=base) for base in (False, True)]
    assert sides[0] == sides[1] != rollouts.draw(fresh, each, 8, (1, 0))
    kls = [event.kl for event in train(run) if isinstance(event, Rewarded)]
    assert abs(kls[0]) < 1e-3 < max(map(abs, kls))
    list(train(opened(tmp_path, model, **how, resume=True)))  # which knows what it began at


@pytest.mark.slow(6)
def test_the_last_object_has_pass_at_k_of_base_and_policy(model: Path, tmp_path: Path) -> None:
    rows = str(written(tmp_path / "rows.jsonl", ROWS))
    words = ["tune", rows, "-M", str(model), "--objective", "reward", "--steps", "8", "--rate", "0.01", "--batch", "2",
             "--tokens", "8", "--eval-answers", "4", "--eval-every", "5", "--test", rows, "--valid", "0",
             "--out", str(tmp_path / "o")]  # fmt: skip
    done = CliRunner().invoke(likely, [*words, "--expert", "2", "--json"])
    assert done.exit_code == 0, done.output
    told = [json.loads(line) for line in done.stdout.splitlines()]
    looks, last = [each for each in told if each["event"] == "held_out"], told[-1]
    assert told[0]["seconds"] > 0 < told[0]["looking_s"]  # by answers that were drawn for it, and not learned from
    assert [each["step"] for each in looks] == [0, 5, 8] and last["measured_at"] == 8
    assert looks[0]["policy"] == looks[0]["base"] == last["base"] and looks[-1]["policy"] == last["policy"]
    timed = [each["drawn_s"] + each["verified_s"] + each["updated_s"] for each in told if each["event"] == "rewarded"]
    assert sum(timed) == pytest.approx([each["elapsed_s"] for each in told if each["event"] == "stepped"][-1])
    assert {*last["base"]} == {*last["policy"]} == {"pass@1", "pass@2", "pass@4"} and last["problems"] == 6
    assert last["policy"]["pass@1"] > last["base"]["pass@1"]
    past = LocalTrainer().open(options(tmp_path / "o"), True, lambda *_: None).past  # as the screen goes on with it
    assert [each.step for each in past if isinstance(each, HeldOut)] == [0, 5, 8]
    assert sum(isinstance(each, Rewarded) for each in past) == 8
    trained = [each["tokens"] for each in told if each["event"] == "stepped"][-1]
    beside = last["expert"]  # by the same answers, and by the tokens that their rows had
    assert beside["drawn"] == 8 * 2 * 8 and 0 < beside["kept"] < 128 and abs(beside["tokens"] - trained) <= 16
    for k in ("pass@1", "pass@2", "pass@4"):
        assert beside["rise"][k][0] == pytest.approx(beside[k] - last["base"][k])
        assert beside["rise_of_policy"][k][0] == pytest.approx(last["policy"][k] - beside[k])
    assert beside["pass@1"] > last["base"]["pass@1"]


def told(out: Path, *words: object) -> Result:
    """What the command line says of a training in `out`."""
    common = "--objective reward --valid 0 --schedule constant --tokens 64 --look-first 0 --out"
    return CliRunner().invoke(likely, ["tune", *common.split(), str(out), *map(str, words)])


def held(folder: Path) -> tuple[object, ...]:
    """Options that hold some problems out, which are asked in other words."""
    rows = [{"prompt": f"ask {i}", "completion": "e"} for i in range(12)]
    return "--test", written(folder / "held.jsonl", rows), "--eval-answers", 4


@pytest.mark.slow(4)
def test_figures_that_go_wrong_are_told_in_words_and_objects(model: Path, tmp_path: Path) -> None:
    """Where another letter is paid than is held out; and where length is paid, of answers that end at a letter."""
    other = written(tmp_path / "other.jsonl", [{**row, "completion": "o"} for row in ROWS])
    done = told(
        tmp_path / "a", other, "-M", model, "--batch", 2, "--rate", 0.01, "--steps", 14, "--json", *held(tmp_path)
    )
    warned = [each for each in map(json.loads, done.stdout.splitlines()) if each["event"] == "warning"]
    assert [each["name"] for each in warned] == ["held_out"] and warned[0]["before"] > 0.2 > warned[0]["now"]
    (tmp_path / "task.toml").write_text(
        'data = "other.jsonl"\nprompt = "{prompt}"\nanswer = "{completion}"\nscorer = "exact"\n'
        f"stop = {[*'abcdefghijklmnopqrstuvwxyz ']}\n"
    )
    longer = "sh -c 'read -r line; echo 0.$((${#line} < 200 ? 20 * ${#line} : 4000))'"
    random = tiny.random_folder(tmp_path / "random", times=6)
    done = told(tmp_path / "b", tmp_path / "task.toml", "-M", random, "--verifier", longer, "--batch", 2,
                "--rate", 0.05, "--steps", 8)  # fmt: skip
    assert re.search(r"^step \d · warning: wrong answers grew from \d+ to \d+ tokens", done.stderr, re.MULTILINE)


@pytest.mark.slow(1)
def test_what_is_drawn_beside_the_steps_is_foretold_by_its_answers(model: Path, tmp_path: Path) -> None:
    """8 to each of 8 problems first, 4 to each of 12 held-out ones before the first step, after 5, 10, 15, and last."""
    how = ("--look-first", 8, "--batch", 2, "--steps", 16, "--eval-every", 5, *held(tmp_path), "--dry-run", "--json")
    plan = json.loads(told(tmp_path / "a", written(tmp_path / "rows.jsonl", ROWS), "-M", model, *how).stdout)
    assert plan["asking_s"] / plan["looking_s"] == pytest.approx(8 * 8 / (5 * 12 * 4))


@pytest.mark.slow(2)
def test_ctrl_c_ends_with_an_object_that_says_what_was_done(model: Path, tmp_path: Path) -> None:
    """Pressed by the verifier, when it is first asked about an answer to learn from."""
    (tmp_path / "judge.py").write_text(
        "import json, os, sys; asked = json.loads(sys.stdin.readline()); said = asked['said'].strip()\n"
        "if said == 'o' and asked['prompt'][:3] == 'say': os.kill(os.getppid(), 2)\n"
        "print(float(said == 'e'))"
    )
    done = told(tmp_path / "a", written(tmp_path / "rows.jsonl", ROWS), "-M", model, "--batch", 1, "--json",
                "--verifier", f"{sys.executable} -S {tmp_path / 'judge.py'}", *held(tmp_path))  # fmt: skip
    last = json.loads(done.stdout.splitlines()[-1])
    assert done.exit_code == 130 and done.stderr.startswith("stopped after step 1; go on with: likely")
    assert [last[name] for name in ("event", "reason", "step", "measured_at")] == ["ended", "stopped", 1, 0]
    assert last["policy"] == last["base"] and last["base"]["pass@4"] > 0


@pytest.mark.slow(2)
def test_a_run_that_gets_no_better_ends_and_what_was_held_out_is_read_again(model: Path, tmp_path: Path) -> None:
    rows = str(written(tmp_path / "held.jsonl", ROWS))
    how = {"rate": 1e-12, "steps": 9, "eval_every": 2, "patience": 2, "eval_answers": 4, "test": rows}
    told = list(train(opened(tmp_path, model, **how)))
    looks = [event for event in told if isinstance(event, HeldOut)]
    assert isinstance(told[-1], Ended) and (told[-1].reason, told[-1].step) == ("patience", 4)
    assert [(each.step, each.now == each.before) for each in looks] == [(0, True), (2, True), (4, True)]
    for each, right in zip(looks[-1].seen, looks[-1].before, strict=True):
        assert {one.right for one in each.now if one.text == each.answer} <= {True}
        assert sum(one.right for one in each.before) == right and len(each.now) == 4
    again = [event for event in read(tmp_path / "out") if isinstance(event, Rewarded | HeldOut)]
    assert again == [replace(event, seen=()) if isinstance(event, HeldOut) else event
                     for event in told if isinstance(event, Rewarded | HeldOut)]  # fmt: skip


def test_pass_at_k_is_compared_on_the_same_problems_and_says_where_it_crosses() -> None:
    before, now = [0, 1, 2, 1, 1, 3, 0, 1], [4, 0, 4, 0, 4, 4, 0, 4]  # of 4 answers each: sharper
    found = held_out(before, now, 4)
    assert [one.k for one in found.passed] == [1, 2, 4] and found.crossing == 4
    for one in found.passed:
        assert one.base.mean == pytest.approx(np.mean([pass_at(one.k, right, 4) for right in before]))
        assert one.rise.estimate.mean == pytest.approx(one.policy.mean - one.base.mean)
    assert held_out(now, before, 4).crossing is None
    surer = held_out([0] * 12, [4] * 11 + [3], 4).passed[0].rise.estimate
    assert surer.interval[0] < surer.mean < surer.interval[1] == 1  # no share rises by more
