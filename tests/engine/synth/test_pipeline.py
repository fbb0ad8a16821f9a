"""The pipeline: what a kill leaves, where rows come from, why they are dropped, and what must not be trained on."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from likely.engine.base.errors import DataError, ParameterError
from likely.engine.measure.synth import pipeline
from likely.engine.measure.synth.config import configure
from likely.engine.measure.synth.pipeline import RowsWarned, RowsWritten, StageYield
from likely.engine.text.rows.training_row import parse
from likely.engine.train.data import data, row_choices
from tests.engine.synth.makers import (
    PROBLEMS,
    CountedSession,
    PlainTokenizer,
    config,
    rows_of,
    run,
    session,
    table,
    write_rows,
)
from tests.fakes import FakeCheckpoint, MarkovModel

FAIR = table({"7": 0.5, "5": 0.5})


def yields(events: list[pipeline.SynthEvent]) -> dict[str, StageYield]:
    return {event.stage: event for event in events if isinstance(event, StageYield)}


def test_verified_rows_are_right_and_say_where_they_come_from(tmp_path: Path) -> None:
    using = session(FAIR)
    events = run(config(tmp_path / "made", {"answers": 8}), using)
    kept = [row for side in ("train", "valid") for row in rows_of(tmp_path / "made" / f"{side}.jsonl")]
    aside = rows_of(tmp_path / "made" / "dropped.jsonl")
    assert len(kept) + len(aside) == 96 and {row["completion"] for row in kept} == {"7"}
    assert len(kept) == 12  # of each problem one, the others are equal to it
    told = yields(events)
    right = told["filter"].kept
    assert 30 <= right <= 66 and told["filter"].reasons == {"verifier": 96 - right}  # half of 96, within 3.7 sigma
    assert told["deduplicate"].reasons == {"equal to another": right - 12}
    assert all(row["dropped"] for row in aside)
    one = kept[0]["source"]
    assert one["method"] == "verified" and one["model"] == "fake" and one["parent"].startswith("problems:")
    # the row can be drawn again by itself from what it says
    from likely.engine.decode.loop.control import RunControl
    from likely.engine.decode.loop.events import Emitted
    from likely.engine.sampling.trace.step import SamplingConfig

    ids = using.tokenizer.encode(kept[0]["prompt"])
    drawn = using.generate(ids, RunControl(SamplingConfig()), seed=one["seed"], max_tokens=8)
    assert "".join(e.step.text for e in drawn if isinstance(e, Emitted)) == kept[0]["completion"]
    found = data.read(tmp_path / "made")
    assert found.forms == {"prompt": 12} and not found.overlap


def test_the_same_seed_gives_the_same_files_and_another_others(tmp_path: Path) -> None:
    for name in ("a", "b"):
        run(config(tmp_path / name, {"answers": 4}), session(FAIR))
    files = ("train.jsonl", "valid.jsonl", "dropped.jsonl")
    assert all((tmp_path / "a" / f).read_bytes() == (tmp_path / "b" / f).read_bytes() for f in files)
    other = configure({"out": str(tmp_path / "c"), "seed": 4,
                       "generate": {"task": str(tmp_path / "problems.jsonl"), "answers": 4}})  # fmt: skip
    run(other, session(FAIR))
    assert (tmp_path / "c" / "drawn.jsonl").read_text() != (tmp_path / "a" / "drawn.jsonl").read_text()


def test_a_run_that_was_stopped_anywhere_loses_and_doubles_nothing(tmp_path: Path) -> None:
    """The journal cut at any byte, as a kill between any two writes of the disk leaves it."""
    run(config(tmp_path / "whole", {"answers": 2, "limit": 4}), session(FAIR))
    journal = (tmp_path / "whole" / "drawn.jsonl").read_bytes()
    wanted = (tmp_path / "whole" / "train.jsonl").read_bytes()
    for cut in [0, 1, *range(20, len(journal), 97), len(journal)]:
        folder = tmp_path / f"cut{cut}"
        folder.mkdir()
        (folder / "drawn.jsonl").write_bytes(journal[:cut])
        using = session(FAIR)
        run(config(folder, {"answers": 2, "limit": 4}), using)
        assert (folder / "train.jsonl").read_bytes() == wanted
        assert (folder / "drawn.jsonl").read_bytes() == journal
        assert using.drawn == 4 - max(0, journal[:cut].count(b"\n") - 1)  # what was whole is not drawn again


HELD = """
import signal, sys
from itertools import count
from pathlib import Path
from tests.engine.synth.makers import config, run, session, table
using = session(table({"7": 0.5, "5": 0.5}))
generate, draws = using.generate, count()
using.generate = lambda *a, **k: generate(*a, **k) if next(draws) < 6 else signal.pause()
run(config(Path(sys.argv[1]), {"answers": 4}), using)
"""


@pytest.mark.slow
def test_a_killed_process_leaves_rows_that_the_next_goes_on_from(tmp_path: Path) -> None:
    run(config(tmp_path / "whole", {"answers": 4}), session(FAIR))
    folder = tmp_path / "killed"
    journal = folder / "drawn.jsonl"
    process = subprocess.Popen([sys.executable, "-c", HELD, str(folder)], cwd=Path(__file__).parents[3])
    while process.poll() is None and (not journal.exists() or journal.read_bytes().count(b"\n") < 4):
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL and not (folder / "train.jsonl").exists()
    left = journal.read_bytes().count(b"\n") - 1
    assert 3 <= left < 12
    using = session(FAIR)
    run(config(folder, {"answers": 4}), using)
    assert using.drawn == 12 - left
    assert (folder / "train.jsonl").read_bytes() == (tmp_path / "whole" / "train.jsonl").read_bytes()


FULL = """
import resource, sys
from pathlib import Path
from likely.engine.base.errors import DataError
from tests.engine.synth.makers import config, run, session, table
resource.setrlimit(resource.RLIMIT_FSIZE, (3000, resource.RLIM_INFINITY))
try:
    run(config(Path(sys.argv[1]), {"answers": 4}), session(table({"7": 0.5, "5": 0.5})))
except DataError as error:
    print(error)
"""


@pytest.mark.slow
def test_a_full_disk_is_one_line_and_costs_no_row(tmp_path: Path) -> None:
    run(config(tmp_path / "whole", {"answers": 4}), session(FAIR))
    folder = tmp_path / "full"
    command = [sys.executable, "-c", FULL, str(folder)]
    out = subprocess.run(command, cwd=Path(__file__).parents[3], capture_output=True, text=True, check=True)
    assert out.stdout.startswith(f"cannot write {folder / 'drawn.jsonl'}: ") and "goes on from there" in out.stdout
    journal = (folder / "drawn.jsonl").read_bytes()
    assert len(journal) <= 3000 and journal.endswith(b"}\n") and journal.count(b"\n") > 1
    run(config(folder, {"answers": 4}), session(FAIR))
    assert (folder / "train.jsonl").read_bytes() == (tmp_path / "whole" / "train.jsonl").read_bytes()


def test_a_folder_of_another_run_is_left_alone(tmp_path: Path) -> None:
    run(config(tmp_path / "made", {"answers": 2}), session(FAIR))
    before = (tmp_path / "made" / "drawn.jsonl").read_bytes()
    with pytest.raises(DataError, match="another pipeline"):
        run(config(tmp_path / "made", {"answers": 3}), session(FAIR))
    write_rows(tmp_path / "problems.jsonl", PROBLEMS[:3])
    with pytest.raises(DataError, match="inputs"):
        run(config(tmp_path / "made", {"answers": 2, "task": str(tmp_path / "problems.jsonl")}), session(FAIR))
    assert (tmp_path / "made" / "drawn.jsonl").read_bytes() == before


def test_what_comes_after_drawing_can_be_changed_and_draws_nothing(tmp_path: Path) -> None:
    run(config(tmp_path / "made", {"answers": 4}), session(FAIR))
    using = session(FAIR)
    events = run(config(tmp_path / "made", {"answers": 4}, balance={"per_parent": 1}, split={"valid": 0.5}), using)
    assert using.drawn == 0
    (written,) = (event for event in events if isinstance(event, RowsWritten))
    assert written.sides["train"] + written.sides["valid"] == 12 and written.sides["valid"] >= 2


def refused(folder: Path, law: Any, generate: dict[str, Any], line: str) -> None:
    with pytest.raises(DataError, match=line):
        run(config(folder, generate), session(law))
    assert not (folder / "train.jsonl").exists()
    assert all(row["dropped"] for row in rows_of(folder / "dropped.jsonl"))


def test_a_verifier_that_passes_nothing_is_said_and_not_trained_on(tmp_path: Path) -> None:
    refused(tmp_path / "made", table({"1": 1.0}), {"answers": 4}, "passes none of 48 answers; nothing was written")


def test_a_verifier_that_passes_everything_is_asked_about_wrong_answers(tmp_path: Path) -> None:
    rows = [{"prompt": f"what is {i}?", "answer": str(i)} for i in range(9)]
    task = write_rows(tmp_path / "own.jsonl", rows)
    yes = f'{sys.executable} -c "print(1)"'
    generate = {"answers": 2, "task": task, "verifier": yes, "limit": 3}
    refused(tmp_path / "made", FAIR, generate, "2 of 2 answers to other problems: it does not see")
    # one that passes a third of them is believed, and said
    third = f"{sys.executable} -c \"import json, sys; print(int(json.load(sys.stdin)['said'] in ('7', '5', '1')))\""
    events = run(config(tmp_path / "third", generate | {"verifier": third, "limit": 4}), session(FAIR))
    assert any(
        isinstance(event, RowsWarned) and "of 3 answers to other problems it refuses 2" in event.line
        for event in events
    )
    # one that sees is believed, and what it passed is trained on
    easy = write_rows(tmp_path / "easy.jsonl", [{"prompt": f"{i} what is 7?", "answer": "7"} for i in range(9)])
    events = run(config(tmp_path / "easy", {"answers": 2, "task": easy}), session(table({"7": 1.0})))
    assert any(isinstance(event, RowsWarned) and "passes every answer" in event.line for event in events)
    assert rows_of(tmp_path / "easy" / "train.jsonl")


def test_a_verifier_that_fails_passes_nothing(tmp_path: Path) -> None:
    broken = f"{sys.executable} -c \"import sys; sys.exit('no such file')\""
    generate = {"answers": 2, "limit": 2, "verifier": broken}
    refused(tmp_path / "made", FAIR, generate, "passes none of 0 answers; 4 left out: no verdict .*no such file")


def test_a_generator_that_only_repeats_is_said_and_not_trained_on(tmp_path: Path) -> None:
    seeds = write_rows(tmp_path / "seeds.jsonl", [{"text": f"a text {i}?"} for i in range(4)])
    generate = {"method": "self-instruct", "data": seeds, "rows": 32, "rouge": 1.0}
    law = table({"7": 1.0})
    law[ord("\n")] = law[ord("?")]  # the examples end with one
    refused(tmp_path / "made", law, generate, "only repeats: 1 different rows of 32, mostly '7'")


WRONG = [
    ({"genrate": {}}, "unknown option genrate; did you mean generate?"),
    ({"generate": {"answer": 3}}, r"\[generate\]: unknown option answer; did you mean answers?"),
    ({"generate": {"answers": "many"}}, "generate.answers must be a whole number, got 'many'"),
    ({"generate": {"method": "verify", "task": "x"}}, "method must be one of verified"),
    ({"generate": {"task": "x", "sampling": {"temprature": 1.0}}}, "unknown option temprature"),
    ({"generate": {"method": "verified"}}, "method = verified needs generate.task"),
    ({"generate": {"method": "grid", "grid": {"topic": []}}}, "must have at least one value"),
    ({"generate": {"task": "x", "rouge": 0.5}}, "generate.rouge goes with method = self-instruct, not verified"),
    ({"generate": {"task": "x"}, "balance": {"classes": ["a"]}}, "balance.classes needs balance.by"),
    ({"generate": {"task": "x"}, "deduplicate": {"jaccard": 1.5}}, "jaccard must be 0 to 1, got 1.5"),
    ({"generate": "x"}, "generate must be a table"),
    ({"train": {"rate": 10**400}}, "train.rate must be a number, got one of 401 digits"),
]


@pytest.mark.parametrize(("values", "line"), WRONG)
def test_a_wrong_file_is_one_line(values: dict[str, Any], line: str) -> None:
    with pytest.raises(ParameterError, match=line):
        configure(values)


def test_two_runs_of_one_folder_are_refused(tmp_path: Path) -> None:
    made = config(tmp_path / "made", {"answers": 2})
    first = pipeline.run(made, lambda name, adapters: session(FAIR))
    next(first)
    with pytest.raises(
        DataError,
        match=r"made is taken: process \d+ \(synth\) has written there since .*; wait for it, or choose another out",
    ):
        run(made, session(FAIR))
    assert [json.loads(line) for line in (tmp_path / "made" / "drawn.jsonl").read_text().splitlines()]
    list(first)


def test_what_was_chosen_by_hand_counts_when_the_pipeline_runs_again(tmp_path: Path) -> None:
    made, chosen = tmp_path / "made", tmp_path / "made" / row_choices.NAME
    drawn = config(made, {"answers": 8}, decontaminate={"against": [str(tmp_path / "seen.jsonl")]})
    write_rows(tmp_path / "seen.jsonl", [{"text": PROBLEMS[0]["prompt"] + "\n7"}])
    run(drawn, session(FAIR))

    def key(row: dict[str, Any]) -> str:
        return row_choices.key(parse({name: row[name] for name in ("prompt", "completion")}, ""))

    kept, aside = rows_of(made / "train.jsonl"), rows_of(made / "dropped.jsonl")
    out, wrong = kept[0], next(row for row in aside if row["dropped"] == "filter: verifier")
    seen = next(row for row in aside if row["dropped"].startswith("decontaminate"))
    row_choices.choose(chosen, {key(out): False, key(wrong): True, key(seen): True})
    using = session(FAIR)
    told = yields(run(drawn, using))["choice"]
    assert using.drawn == 0 and told.reasons == {"dropped by hand": 1, "kept by hand": 1}
    assert told.kept == told.came == 11  # the one that is evaluated stays away, and of equal ones one comes back
    now = [row for side in ("train", "valid") for row in rows_of(made / f"{side}.jsonl")]
    assert out["id"] not in [row["id"] for row in now] and [key(row) for row in now].count(key(wrong)) == 1
    assert [r["id"] for r in rows_of(made / "dropped.jsonl") if r["dropped"] == "choice: dropped by hand"] == [
        out["id"]
    ]
    row_choices.choose(chosen, dict.fromkeys(row_choices.read(chosen)))  # all taken back
    assert "choice" not in yields(run(drawn, session(FAIR)))
    assert rows_of(made / "train.jsonl") == kept


def test_a_prompt_without_room_is_a_row_aside(tmp_path: Path) -> None:
    task = write_rows(tmp_path / "t.jsonl", [*PROBLEMS[:3], {"prompt": "x" * 40 + "?", "answer": "7"}])
    short = CountedSession(FakeCheckpoint(MarkovModel(FAIR, context=30), PlainTokenizer()))  # type: ignore[arg-type]
    run(config(tmp_path / "made", {"answers": 4, "task": task}), short)
    (aside,) = (r for r in rows_of(tmp_path / "made" / "dropped.jsonl") if "too long" in r["dropped"])
    assert aside["dropped"] == "generate: the prompt is too long" and aside["source"]["parent"] == "job:3"
