"""The comparison: columns that differ in parameters, order, strategy or model, and what is kept of them."""

import asyncio
import time
from itertools import count

import pytest
from textual.widgets import Label

from app import requests as r
from app.jobs import ModelJobs
from app.tui.chat.comparison import columns as columns_of
from app.tui.chat.comparison import divergence
from app.tui.tokens import cells
from app.tui.views.compare import CompareScreen
from app.worker import Worker
from engine.decode.control import RunControl
from engine.decode.events import Emitted
from engine.prompt import Prompt
from tests.support.model import ANSWER, BLUE, SKY, ScriptedEngine, ScriptedShop
from tests.tui.conftest import Play, Stage

ASK = "Why is the sky blue?"


async def compared(stage: Stage) -> CompareScreen:
    """The comparison, every column with its answer; the second one draws other words."""
    await stage.pilot.press("f3")
    screen = stage.app.screen
    assert isinstance(screen, CompareScreen)
    for number, column in enumerate(screen.columns):
        column.talk.new_seed = lambda number=number: number % 2  # type: ignore[misc]
    screen.prompt.take(ASK)
    await stage.pilot.press("enter")
    await over(stage, screen)
    return screen


async def over(stage: Stage, screen: CompareScreen) -> None:
    await stage.until(
        lambda: all(c.talk.transcript.shown and not c.talk.running for c in screen.columns), "answers in all columns"
    )


async def choose(stage: Stage, words: str) -> None:
    """Pick from the list that is open what begins with some words."""
    from textual.widgets import OptionList

    rows = stage.app.screen.query_one(OptionList)
    prompts = [str(rows.get_option_at_index(index).prompt).strip() for index in range(rows.option_count)]
    rows.highlighted = next(index for index, prompt in enumerate(prompts) if prompt.startswith(words))
    await stage.pilot.press("enter")


@pytest.mark.slow
async def test_columns_advance_together_and_one_is_adopted(play: Play) -> None:
    async with play() as stage:
        screen = await compared(stage)
        answers = [column.talk.transcript.shown[-1].message.text for column in screen.columns]
        assert answers == [SKY, BLUE, SKY]
        assert screen.columns[1].view.mark is not None and screen.columns[2].view.mark is None
        assert screen.columns[0].talk.sampling.recipe.greedy
        assert [column.parts_at for column in screen.columns] == [None, 0, None]
        assert "differs at 1" in stage.picture() and "the same" in stage.picture()
        await stage.pilot.press("tab", "minus")
        await stage.until(lambda: len(screen.columns) == 2)
        await stage.pilot.press("plus")
        await stage.pilot.press("escape")
        await stage.until(lambda: len(screen.columns) == 3)
        screen.columns[0].view.focus()
        await stage.pilot.press("a")
        await stage.until(lambda: stage.app.screen is stage.chat)
        assert stage.texts == [ASK, SKY]
        assert "greedy" in stage.chat.talk.transcript.note(1) and "branch" in stage.chat.talk.transcript.note(1)


@pytest.mark.slow
async def test_columns_differ_in_strategy_parameters_and_order(play: Play) -> None:
    async with play() as stage:
        screen = await compared(stage)
        column = screen.columns[2]
        column.talk.new_seed = lambda: 0
        column.view.focus()
        runs = len(stage.engine.strategies)
        await stage.pilot.press("c")
        await choose(stage, "n-gram")
        await over(stage, screen)
        assert (
            stage.engine.strategies[-1] == "ngram" and len(stage.engine.strategies) == runs + 1
        )  # it alone runs again
        assert "n-gram guesses" in column.label and column.parts_at is None
        await stage.pilot.press("c")
        await choose(stage, "parameters")
        await stage.pilot.press("home", "shift+end", "delete", *"temp 1.3 top_k 40", "enter")
        await over(stage, screen)
        assert column.talk.sampling.values["temp"] == 1.3 and column.talk.sampling.values["top_k"] == 40
        assert column.steps[0].recipe == column.talk.sampling.recipe
        await stage.pilot.press("c")
        await choose(stage, "llama.cpp")
        await over(stage, screen)
        assert "llama.cpp order" in column.label
        await stage.pilot.press("c")
        await choose(stage, "parameters")
        await stage.pilot.press("home", "shift+end", "delete", *"tmep 1.3", "enter")
        assert "did you mean temp" in screen.hints.news
        screen.columns[0].view.focus()
        await stage.pilot.press("c")
        await choose(stage, "wild")
        await over(stage, screen)
        assert [each.parts_at for each in screen.columns] == [None, 0, None]


@pytest.mark.slow
async def test_a_column_has_a_model_or_a_drafter_of_its_own(play: Play) -> None:
    other = ScriptedEngine("other", scripts=[BLUE])
    async with play(ScriptedEngine(), other) as stage:
        screen = await compared(stage)
        column = screen.columns[0]
        column.view.focus()
        await stage.pilot.press("c")
        await choose(stage, "another model")
        await stage.until(lambda: getattr(stage.app.screen, "offers", ()), "models to choose from")
        await stage.pilot.press("down", "enter")
        await stage.until(lambda: column.talk.facts is not None and column.talk.facts.name == "other")
        await over(stage, screen)
        assert column.talk.transcript.shown[-1].message.text == BLUE and "other" in column.label
        screen.columns[1].view.focus()
        await stage.pilot.press("c")
        await choose(stage, "draft")
        await over(stage, screen)
        assert stage.engine.strategies[-1] == "draft other" and "drafts of other" in screen.columns[1].label
        assert set(stage.app.engine.models) == {"scripted", "other"}
        await stage.pilot.press("escape")
        await stage.until(lambda: stage.app.screen is stage.chat)
        await stage.until(lambda: set(stage.app.engine.models) == {"scripted"})  # nothing needs the other any more
        await stage.until(lambda: ("close", []) in other.calls)


def test_the_first_difference_is_one_of_bytes() -> None:
    engine = ScriptedEngine()
    steps = engine.score(engine.tokenizer.encode(" The sky looks blue"))
    assert divergence(steps, steps) is None and divergence(steps, steps[:2]) is None
    assert divergence(steps, [*steps[:2], steps[0]]) == 2
    assert divergence(steps, [steps[1], *steps[1:]], start=1) is None


def two_runs(tokens: int) -> tuple[Worker, list[int]]:
    """A worker with two runs of so many tokens, and their jobs."""
    worker = Worker(lambda: ModelJobs(ScriptedShop()))
    worker.submit(r.Load(""))
    prompt = Prompt((("user", "Hello"),))
    jobs = [worker.submit(r.Generate("scripted", prompt, RunControl(), max_tokens=tokens)) for _ in range(2)]
    worker.start()
    return worker, jobs


@pytest.mark.slow
async def test_runs_take_turns() -> None:
    worker, (one, other) = two_runs(5)
    order: list[int] = []
    for _ in range(500):
        order += [job for job, event in worker.drain() if isinstance(event, Emitted)]
        if len(order) == 10:
            break
        await asyncio.sleep(0.005)
    worker.close()
    assert sorted(order) == [one] * 5 + [other] * 5
    assert max(abs(order[:i].count(one) - order[:i].count(other)) for i in range(11)) <= 2


async def test_the_time_of_a_run_is_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every event takes two ticks of a false clock: of runs that take turns, none counts another's."""
    ticks = count()
    monkeypatch.setattr("app.jobs.perf_counter", lambda: float(next(ticks)))
    worker, (one, other) = two_runs(4)
    spent: dict[int, list[float]] = {one: [], other: []}
    for _ in range(500):
        for job, event in worker.drain():
            if isinstance(event, Emitted):
                spent[job].append(event.step.elapsed_s)
        if len(spent[one]) == len(spent[other]) == 4:
            break
        await asyncio.sleep(0.005)
    worker.close()
    assert spent[one] == spent[other] == [2.0, 3.0, 4.0, 5.0]  # the prompt was the first event


@pytest.mark.slow
@pytest.mark.parametrize("keys", [("f2",), ("f4",), ("tab", "a"), ("f2", "f3", "f2"), ("escape", "escape")])
async def test_a_comparison_is_left_while_it_generates(play: Play, keys: tuple[str, ...]) -> None:
    engine = ScriptedEngine()
    drawn: list[int] = []
    engine.pace = lambda at: (drawn.append(at), time.sleep(0.001))  # type: ignore[assignment,return-value]
    async with play(engine) as stage:
        await stage.ask("Hello")
        drawn.clear()
        await stage.pilot.press("f3")
        screen = stage.app.screen
        assert isinstance(screen, CompareScreen)
        screen.prompt.take(ASK)
        await stage.pilot.press("enter")
        await stage.until(lambda: len(drawn) > 5)
        await stage.pilot.press(*keys)
        await stage.until(lambda: stage.app.screen is not screen, "another view")
        await stage.pilot.pause(0.1)
        assert not any(column.talk.running for column in screen.columns)


@pytest.mark.slow
async def test_a_comparison_stays_and_is_found_among_the_conversations(play: Play) -> None:
    async with play() as stage:
        screen = await compared(stage)
        answers = [column.talk.transcript.shown[-1].message.text for column in screen.columns]
        labels = [column.label for column in screen.columns]
        await stage.pilot.press("f2", "f3")
        assert stage.app.screen is screen and "differs at 1" in stage.picture()
        assert [column.talk.transcript.shown[-1].message.text for column in screen.columns] == answers
        await stage.pilot.press("ctrl+n")  # an empty one
        await stage.until(lambda: not any(column.steps for column in screen.columns))
        await stage.pilot.press("f2", "ctrl+o")
        listed = lambda: any(ASK in line and " compare  " in line for line in stage.picture().splitlines())  # noqa: E731
        await stage.until(listed, "the comparison in the list")
        await stage.pilot.press("enter")
        await stage.until(lambda: stage.app.screen is screen and len(screen.columns[0].steps) > 0, "its columns")
        assert [column.talk.transcript.shown[-1].message.text for column in screen.columns] == answers
        assert [column.label for column in screen.columns] == labels and screen.prompt.text == ASK
        assert screen.columns[1].parts_at == 0
        screen.columns[1].view.focus()
        await stage.pilot.press("c")
        await choose(stage, "greedy")  # one column again, the others stay
        await over(stage, screen)
        kept = screen.current()
        assert kept is not None and len(columns_of(kept)) == 3 and len(kept.nodes) == 5


@pytest.mark.slow
async def test_a_comparison_that_was_saved_is_there_in_another_program(play: Play) -> None:
    async with play() as stage:
        screen = await compared(stage)
        await stage.pilot.press("f2")
        kept = screen.current()
        assert kept is not None
    async with play(resume=kept.id) as stage:
        await stage.until(lambda: isinstance(stage.app.screen, CompareScreen))
        screen = stage.app.screen  # type: ignore[assignment]
        await stage.until(lambda: len(screen.columns) == 3 and screen.columns[1].steps)
        assert [column.talk.transcript.shown[-1].message.text for column in screen.columns] == [SKY, BLUE, SKY]
        screen.columns[1].view.focus()
        await stage.pilot.press("left")
        assert screen.line.view is not None and len(screen.line.view.rows) > 3  # its distribution, from disk


@pytest.mark.slow
@pytest.mark.parametrize("plan", ["search", "lost"])
async def test_a_column_whose_search_gave_branches_up_is_adopted(play: Play, plan: str) -> None:
    engine = ScriptedEngine()
    engine.plan = plan
    async with play(engine) as stage:
        screen = await compared(stage)
        picked = screen.columns[0]
        assert picked.talk.conversation.pruned
        picked.view.focus()
        await stage.pilot.press("a")
        await stage.until(lambda: stage.app.screen is stage.chat and len(stage.shown) == 2, "the answer in the chat")
        adopted = stage.chat.talk.conversation
        assert not adopted.pruned and {fork.node for fork in adopted.chosen} <= {*adopted.nodes, ""}


@pytest.mark.slow
async def test_an_added_column_says_what_to_do(play: Play) -> None:
    async with play() as stage:
        await stage.pilot.press("f3")
        await stage.pilot.press("tab", "plus")
        await stage.until(lambda: "what this column does differently" in stage.picture())
        await stage.pilot.press("escape")
        await stage.until(lambda: "c sets it up" in stage.picture())


@pytest.mark.slow
async def test_answers_are_rendered_or_raw_in_every_column(play: Play) -> None:
    async with play(ScriptedEngine(scripts=[ANSWER])) as stage:
        screen = await compared(stage)
        lines = lambda text: sum(line.count(text) for line in stage.picture().splitlines())  # noqa: E731
        assert (lines("Light scatters in air"), lines("Light **scatters**")) == (3, 0)
        await stage.pilot.press("m")
        assert (lines("Light scatters in air"), lines("Light **scatters**")) == (0, 3)
        screen.prompt.focus()
        await stage.pilot.press("m")  # a letter of the prompt
        assert screen.prompt.text.endswith("m") and lines("Light **scatters**") == 3
        await stage.pilot.press("enter")  # what is drawn from now on is shown as chosen, in columns that are new too
        await over(stage, screen)
        assert lines("Light **scatters**") == 3
        screen.columns[0].view.focus()
        await stage.pilot.press("minus")
        await stage.until(lambda: len(screen.columns) == 2)
        await stage.pilot.press("plus", "escape")
        await stage.until(lambda: len(screen.columns) == 3)
        screen.prompt.focus()
        await stage.pilot.press("enter")
        await over(stage, screen)
        assert lines("Light **scatters**") == 3
        screen.columns[0].view.focus()
        await stage.pilot.press("m")
        assert (lines("Light scatters in air"), lines("Light **scatters**")) == (3, 0)


@pytest.mark.slow
async def test_what_a_column_came_to_fits_when_the_terminal_becomes_narrower(play: Play) -> None:
    async with play() as stage:
        screen = await compared(stage)
        await stage.pilot.resize_terminal(60, 20)
        await stage.until(lambda: all(column.size.width <= 20 for column in screen.columns), "narrow columns")
        feet = [str(column.query_one(".column-foot", Label).content) for column in screen.columns]
        assert all(cells.width(foot) <= column.size.width for foot, column in zip(feet, screen.columns, strict=True))
        assert feet[1:] == ["differs at 1", "the same"] and feet[0].startswith("ppl")
        await stage.pilot.resize_terminal(120, 40)
        await stage.until(lambda: "tok/s" in stage.picture(), "what there is room for again")
