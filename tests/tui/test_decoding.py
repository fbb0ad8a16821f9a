"""The way of decoding in the chat: chosen beside the sampler, drawn live by the tree with scores, its answers kept."""

from threading import Event

import pytest
from textual.widgets import OptionList

from app.requests import Count
from app.store import Store
from app.tui.tokens.layout import TokenPlace
from app.tui.widgets.best_texts import BestTexts
from engine.decode.beam import Beam
from engine.decode.several import Vote
from engine.decode.strategies import PLAIN
from tests.support.model import ScriptedEngine
from tests.tui.conftest import Play, Stage

ASK = "Why is the sky blue?"


def searching() -> ScriptedEngine:
    """An engine that searches as planned where a beam search of three or a vote of four is asked for."""
    engine = ScriptedEngine()
    engine.plans = {"beam 3": "beams", "vote 4": "votes", "vote 3": "worked", "vote": "many", "exact 50": "walk"}
    return engine


async def choose(stage: Stage, text: str) -> None:
    await stage.type(f"/strategy {text}")
    await stage.until(lambda: str(stage.chat.talk.strategy) == text)


@pytest.mark.slow
async def test_the_strategy_is_a_row_of_the_sampler_that_opens_a_list(play: Play) -> None:
    async with play(searching()) as stage:
        sampler = stage.sampler
        assert "strategy" not in sampler.rows()  # what is off is folded away
        sampler.focus()
        await stage.pilot.pause()
        assert sampler.rows()[0] == "strategy"
        await stage.pilot.press("s")
        await stage.until(lambda: stage.app.screen.query(OptionList))
        listed = [option.id for option in stage.app.screen.query_one(OptionList).options if option.id]
        assert {"strategy sample", "strategy beam", "strategy exact", "strategy vote"} <= set(listed)
        await stage.pilot.press(*["down"] * listed.index("strategy beam"), "enter")
        await stage.until(lambda: stage.chat.talk.strategy == Beam())
        assert "bans and biases" in stage.chat.hints.news
        sampler.picked = "=beams"
        await stage.pilot.press("left", "left")
        await stage.until(lambda: stage.chat.talk.strategy == Beam(2))
        assert "=penalty" in sampler.rows() and "temp" not in sampler.rows()
        await stage.pilot.press("left", "left", "left")
        await stage.until(lambda: "number of beams must be" in stage.chat.hints.news)
        assert stage.chat.talk.strategy == Beam(1)
        await stage.pilot.press("0")
        await stage.until(lambda: stage.chat.talk.strategy == PLAIN)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("beam 0", "the number of beams must be"), ("diverse 4 3", "4 beams cannot be parted into 3 groups"),
        ("beam many", "must be a number"), ("best 4", "is no way of drawing"), ("vote 4 x-y", "no rule of extraction"),
        ("draft other", "needs other, which is not loaded"),
    ],
)  # fmt: skip
async def test_a_strategy_that_cannot_be_is_refused_in_one_line(play: Play, text: str, line: str) -> None:
    async with play() as stage:
        await stage.type(f"/strategy {text}")
        assert line in stage.chat.hints.news and "\n" not in stage.chat.hints.news
        assert stage.chat.talk.strategy == PLAIN


@pytest.mark.slow
async def test_a_search_is_drawn_live_with_scores_and_ends_on_its_best(play: Play) -> None:
    engine, gate = searching(), Event()
    engine.pace = lambda turn: gate.wait(5) and None if turn == 13 else None
    async with play(engine) as stage:
        tree = stage.chat.inspector.tree_pane
        await choose(stage, "beam 3")
        await stage.type(ASK)
        await stage.until(lambda: tree.pruned == 1, "a branch that is given up")
        assert stage.chat.talk.running and tree.columns == ("log₂p", "score")
        assert [way.numbers[1] for way in tree.ways if way.text == "…blue"] == ["−1.30"]  # -0.9 nats in bits
        assert "…light" not in [way.text for way in tree.ways]
        tree.focus()
        await stage.pilot.press("z")
        await stage.until(lambda: "…light" in [way.text for way in tree.ways])
        gate.set()
        await stage.until(lambda: stage.ended)
        assert stage.texts == [ASK, " The sky looks red because air"]  # the best of three, not the first on the screen
        note = stage.chat.talk.transcript.note(1)
        assert "beam 3" in note and "T 0" not in note
        figures = [node.figures for node in stage.chat.talk.conversation.nodes.values() if node.finish == "eot"]
        assert sorted(each["score"] for each in figures) == [-1.2, -0.5]
        tree.picked = next(i for i, way in enumerate(tree.ways) if way.given_up)
        tree.action_choose()
        await stage.until(lambda: stage.texts[1] == " The sky looks light")
        path, talk = stage.app.home / "other.db", stage.chat.talk.conversation
        store = Store(path)
        store.save(talk)
        assert {n.id: n.figures for n in store.load(talk.id).nodes.values()} == {
            n.id: n.figures for n in talk.nodes.values()
        }
        store.close()


@pytest.mark.slow
async def test_a_vote_shows_its_answers_and_ends_on_one_that_won(play: Play) -> None:
    async with play(searching()) as stage:
        await choose(stage, "vote 4")
        assert stage.chat.talk.strategy == Vote(4)
        await stage.ask(ASK)
        votes = stage.chat.inspector.votes
        await stage.until(lambda: votes.tally is not None and len(votes.tally.said) == 4)
        assert votes.tally is not None and votes.display
        assert [(share.answer, share.count) for share in votes.tally.shares] == [("4", 2), ("5", 1)]
        assert votes.tally.unanswered == 1 and stage.texts[1] in (" It is 4", " I think 4")
        picture = stage.picture()
        assert "VOTES  4 of 4" in picture and "50.0 %" in picture and "1 no answer" in picture
        tree = stage.chat.inspector.tree_pane
        assert [way.numbers[0] for way in tree.ways[1:]] == ["4", "5", "4", ""]
        assert "vote 4" in stage.chat.talk.transcript.note(1)
        await stage.type("/strategy plain")
        await stage.ask("Hello , what about sunsets")
        assert not votes.display


@pytest.mark.slow
async def test_texts_of_a_search_are_walked_while_it_goes_on_and_one_is_taken(play: Play) -> None:
    engine, gate = searching(), Event()
    engine.pace = lambda turn: gate.wait(5) and None if turn == 18 else None
    async with play(engine) as stage:
        best = stage.chat.query_one(BestTexts)
        assert not best.display
        await choose(stage, "beam 3")
        await stage.type(ASK)
        await stage.until(lambda: best.ranking is not None and len(best.ranking.rows) == 3)
        await stage.until(lambda: best.ranking is not None and best.ranking.rows[0].text == "…red because air")
        assert best.ranking is not None and best.ranking.words == "3 growing"
        assert [row.numbers[2] for row in best.ranking.rows] == ["−0.72", "−1.73", "−2.16"]  # nats of the plan, in bits
        best.focus()
        await stage.pilot.press("up")
        await stage.until(lambda: stage.texts[1] == " The sky looks red because air")
        run = stage.chat.talk.run
        assert run is not None and not run.control.cancelled  # it goes on
        await stage.pilot.press("down", "down")
        await stage.until(lambda: stage.texts[1] == " The sky looks red sunlight")
        await stage.pilot.press("enter")  # and no other
        await stage.until(lambda: not stage.chat.talk.running)
        assert run.control.cancelled and stage.texts[1] == " The sky looks red sunlight"
        gate.set()


async def test_a_text_that_is_looked_at_goes_on_growing_there(play: Play) -> None:
    engine, gate, last = searching(), Event(), Event()
    engine.pace = lambda turn: {12: gate, 18: last}[turn].wait(5) and None if turn in (12, 18) else None
    async with play(engine) as stage:
        best = stage.chat.query_one(BestTexts)
        await choose(stage, "beam 3")
        await stage.type(ASK)
        await stage.until(lambda: best.ranking is not None and "…red" in [row.text for row in best.ranking.rows])
        best.focus()
        while stage.texts[1] != " The sky looks red":
            await stage.pilot.press("up" if best.at else "down")
        gate.set()
        await stage.until(lambda: stage.texts[1] == " The sky looks red because air")
        last.set()
        await stage.until(lambda: stage.ended)


async def test_a_text_that_has_ended_is_looked_at_while_others_grow(play: Play) -> None:
    engine, gate, last = searching(), Event(), Event()
    engine.plans["vote 2"] = "early"
    engine.pace = lambda turn: {4: gate, 5: last}[turn].wait(5) and None if turn in (4, 5) else None
    async with play(engine) as stage:
        best = stage.chat.query_one(BestTexts)
        await choose(stage, "vote 2")
        await stage.type(ASK)
        await stage.until(lambda: best.ranking is not None and any(row.state == "ended" for row in best.ranking.rows))
        best.focus()
        await stage.pilot.press("down")
        await stage.until(lambda: stage.texts[1] == " Blue light")
        gate.set()
        await stage.until(lambda: best.ranking is not None and best.ranking.rows[0].text == "The sky looks blue")
        assert stage.texts[1] == " Blue light" and stage.picture().count("looks blue") == 2  # in list and tree
        last.set()
        await stage.until(lambda: stage.ended)


@pytest.mark.slow
async def test_a_text_that_was_put_away_leaves_the_list(play: Play) -> None:
    async with play(searching()) as stage:
        best = stage.chat.query_one(BestTexts)
        await choose(stage, "vote 4")
        await stage.type(ASK)
        await stage.until(lambda: stage.ended)
        assert best.ranking is not None and len(best.ranking.rows) == 4
        gone = next(row.node for row in best.ranking.rows if "think" in row.text)
        tree = stage.chat.inspector.tree_pane
        tree.focus()
        tree.picked = next(i for i, way in enumerate(tree.ways) if "think" in way.text)
        await stage.pilot.press("delete")
        await stage.until(lambda: best.ranking is not None and len(best.ranking.rows) == 3)
        best.focus()
        await stage.pilot.press("down", "down", "down", "up", "enter")
        await stage.until(lambda: stage.texts[1] == " It is 5")
        best.post_message(BestTexts.TextPicked(gone, take=True))  # as from a list of a moment ago
        await stage.pilot.pause()
        assert stage.texts[1] == " It is 5" and gone not in [row.node for row in best.ranking.rows]


async def test_space_holds_a_search(play: Play) -> None:
    engine, gate, turns = searching(), Event(), list[int]()
    engine.pace = lambda turn: turns.append(turn) or (gate.wait(5) and None if turn == 13 else None)
    async with play(engine) as stage:
        best = stage.chat.query_one(BestTexts)
        await choose(stage, "beam 3")
        await stage.type(ASK)
        await stage.until(lambda: best.ranking is not None and len(best.ranking.rows) == 3)
        best.focus()
        await stage.pilot.press("space")
        run = stage.chat.talk.run
        assert run is not None
        await stage.until(lambda: run.control.paused and "paused" in stage.picture())
        gate.set()
        counted: list[object] = []  # other jobs have their turns
        for _ in range(8):
            stage.app.engine.submit(Count("scripted", "sky"), lambda job, events: counted.extend(events))
        await stage.until(lambda: len(counted) == 8)
        assert turns[-1] <= 14 and stage.chat.talk.running
        await stage.pilot.press("space")
        await stage.until(lambda: stage.ended)


@pytest.mark.parametrize("size", [(80, 24), (60, 30)])
async def test_under_110_columns_the_glance_is_at_the_votes(play: Play, size: tuple[int, int]) -> None:
    async with play(searching(), size=size) as stage:
        await choose(stage, "vote 4")
        await stage.ask(ASK)
        inspector = stage.chat.inspector
        await stage.until(lambda: inspector.votes.tally is not None and len(inspector.votes.tally.said) == 4)
        assert "VOTES  4 of 4" in stage.picture() and "4 PATHS" in stage.picture()
        assert inspector.votes.display and not inspector.candidates.display
        inspector.next_face()
        await stage.until(lambda: inspector.candidates.display and not inspector.votes.display)


async def test_stopping_a_search_lets_it_tell_what_it_has_found(play: Play) -> None:
    engine, gate = searching(), Event()
    engine.pace = lambda turn: gate.wait(5) and None if turn == 2 else None
    async with play(engine) as stage:
        await choose(stage, "exact 50")
        await stage.type(ASK)
        run = stage.chat.talk.run
        await stage.until(lambda: run is not None and run.rated)
        await stage.pilot.press("escape")
        assert stage.chat.talk.running and run is not None and run.control.cancelled
        gate.set()
        await stage.until(lambda: not stage.chat.talk.running)
        assert stage.texts == [ASK, " The sky looks blue"]


@pytest.mark.parametrize("keys", [["escape"], ["escape", "escape"], ["ctrl+n"]])
async def test_a_search_that_is_stopped_shows_the_best_it_holds(play: Play, keys: list[str]) -> None:
    """By the scores that the plan gave by then: -1.2, -0.7, -1.5; the second is not the one that was on the screen."""
    engine, gate = searching(), Event()
    engine.pace = lambda turn: gate.wait(5) and None if turn == 16 else None
    async with play(engine) as stage:
        await choose(stage, "beam 3")
        await stage.type(ASK)
        talk = stage.chat.talk
        scores = lambda: [dict(node.figures).get("score") for node in talk.conversation.nodes.values()]  # noqa: E731
        await stage.until(lambda: -1.2 in scores() and -0.7 in scores() and -1.5 in scores())
        await stage.pilot.press(*keys)
        gate.set()
        await stage.until(lambda: not talk.running)
        leaf = talk.conversation.leaf
        assert leaf is not None and leaf.figures["score"] == max(s for s in scores() if s is not None)
        if keys != ["ctrl+n"]:
            ends = [row.state for row in stage.chat.query_one(BestTexts).ranking.rows]  # type: ignore[union-attr]
            assert ends == (["stopped"] * 3 if len(keys) == 2 else ["ended", "ended", "ended"])


async def test_stopping_twice_waits_for_nothing(play: Play) -> None:
    engine, gate = searching(), Event()
    engine.pace = lambda turn: gate.wait(5) and None if turn == 13 else None
    async with play(engine) as stage:
        await choose(stage, "beam 3")
        await stage.type(ASK)
        await stage.until(lambda: stage.chat.talk.conversation.pruned)
        await stage.pilot.press("escape", "escape")
        assert not stage.chat.talk.running
        gate.set()
        await stage.pilot.pause()
        assert all(node.finish for node in stage.chat.talk.conversation.nodes.values() if node.role == "assistant")


async def test_leaving_while_it_searches_keeps_what_was_found(play: Play) -> None:
    engine, gate = searching(), Event()
    engine.pace = lambda turn: gate.wait(5) and None if turn == 13 else None
    async with play(engine) as stage:
        await choose(stage, "beam 3")
        await stage.type(ASK)
        await stage.until(lambda: stage.chat.talk.conversation.pruned)
        stage.chat.action_new()
        assert stage.texts == [] and stage.chat.talk.strategy == PLAIN and stage.sampler.strategy == PLAIN
        gate.set()
        await stage.pilot.pause()
        assert stage.texts == []


@pytest.mark.slow
async def test_step_mode_draws_by_the_sampler_whatever_the_strategy(play: Play) -> None:
    async with play(searching()) as stage:
        await stage.ask(ASK)
        await choose(stage, "beam 3")
        talk, recipes = stage.chat.talk, []
        assert talk.recipe != talk.sampling.recipe
        stage.chat.action_step()
        await stage.until(lambda: talk.peek is not None and not talk.running)
        await stage.type("and why red")
        for count in (0, 1, 2):
            await stage.until(lambda count=count: len(stage.shown) == 4 and len(stage.shown[3].steps) == count)
            await stage.until(lambda: talk.peek is not None and not talk.running)
            recipes.append(talk.peek.recipe if talk.peek is not None else None)
            talk.pick(None)
        assert recipes == [talk.sampling.recipe] * 3 and talk.recipe == talk.sampling.recipe


@pytest.mark.slow
async def test_texts_of_a_search_are_dropped_while_they_grow_and_once_they_have_ended(play: Play) -> None:
    engine, gate = searching(), Event()
    engine.pace = lambda turn: gate.wait(5) and None if turn == 12 else None
    async with play(engine) as stage:
        best = stage.chat.query_one(BestTexts)
        await choose(stage, "beam 3")
        await stage.type(ASK)
        await stage.until(lambda: best.ranking is not None and "…red" in [row.text for row in best.ranking.rows])
        best.focus()
        for _ in range(4):
            if stage.texts[1] != " The sky looks red":
                await stage.pilot.press("up" if best.at else "down")
        assert stage.texts[1] == " The sky looks red"
        await stage.pilot.press("delete")
        run = stage.chat.talk.run
        assert run is not None and len(run.control.given_up) == 1
        await stage.until(lambda: stage.texts[1] != " The sky looks red")  # what stands beside it is looked at
        gate.set()
        await stage.until(lambda: stage.ended)
        assert best.ranking is not None and "…red because air" not in [row.text for row in best.ranking.rows]
        assert len(best.ranking.rows) == 2 and stage.texts[1] == " The sky looks blue because"
        await stage.pilot.press("delete")
        await stage.until(lambda: stage.texts[1] == " The sky looks red sunlight")
        assert not best.display and "u in the transcript" in stage.chat.hints.news
        stage.chat.pane.action_restore()
        await stage.until(lambda: stage.texts[1] == " The sky looks blue because")


@pytest.mark.slow
async def test_a_list_that_is_cut_says_how_many_more_there_are(play: Play) -> None:
    async with play(searching(), size=(120, 40)) as stage:
        await choose(stage, "vote")
        await stage.ask(ASK)
        best = stage.chat.query_one(BestTexts)
        await stage.until(lambda: best.display and "16 PATHS" in stage.picture())
        await stage.until(lambda: f"+ {16 - (best.size.height - 2)} more" in stage.picture())
        assert 3 < best.size.height < 17
        best.focus()
        for _ in range(20):
            await stage.pilot.press("down" if best.at < 15 else "end")
        await stage.until(lambda: "\n 16 " in stage.picture() and " more" in stage.picture())


async def test_the_width_of_a_search_is_a_slider_that_is_dragged(play: Play) -> None:
    async with play(searching(), size=(120, 40)) as stage:
        await choose(stage, "beam 5")
        sampler = stage.sampler
        sampler.focus()
        await stage.until(lambda: "beams" in stage.picture() and "early" in stage.picture())
        row = next(line for line in stage.picture().split("\n") if " beams " in line)
        left = stage.sampler.region.x + 16
        assert 0 < row.index("●", left) - left < 8 and row.rstrip().endswith("5")
        await stage.pilot.click(sampler, offset=(16, 2))  # the left end of the track
        await stage.until(lambda: stage.chat.talk.strategy == Beam(1))
        early = next(i for i, line in enumerate(stage.picture().split("\n")) if " early " in line)
        await stage.pilot.click(offset=(left, early))  # which is no number
        await stage.pilot.pause()
        assert stage.chat.talk.strategy == Beam(1)


async def test_what_beams_share_is_shaded_and_the_panel_says_what_the_search_chose(play: Play) -> None:
    engine, gate = searching(), Event()
    engine.pace = lambda turn: gate.wait(5) and None if turn == 18 else None
    async with play(engine) as stage:
        best, view = stage.chat.query_one(BestTexts), stage.chat.pane.view
        await choose(stage, "beam 3")
        await stage.type(ASK)
        await stage.until(lambda: best.ranking is not None and best.ranking.rows[0].text == "…red because air")
        assert best.ranking is not None and best.ranking.shared == ((3, 3), (1, 2))
        await stage.until(lambda: view.shared == [3, 3, 3, 0, 0])
        ground = stage.app.look.shared[3].bgcolor
        row = view.render_line(view.layout_.height - 1)
        assert "".join(s.text for s in row if s.style and s.style.bgcolor == ground) == "The sky looks"
        picture = stage.picture()
        assert "shared by  all 3  3 tok  then 2 tok alone" in picture and "Σ log₂p then rank" in picture
        table = stage.chat.inspector.table()
        assert (
            table is not None and table.title == "NEXT" and [row.more[1] for row in table.rows if row.chosen] == ["3"]
        )
        assert all(row.more[1] == "✕" and row.removed_by for row in table.rows if not row.chosen)
        best.focus()
        await stage.pilot.press("up")  # the first, which shares a token more with the third
        await stage.until(lambda: view.shared == [3, 3, 3, 2, 0, 0])
        view.focus()
        view.move_to(TokenPlace(1, 3))  # where blue and red went on, and light was given up after
        await stage.pilot.pause()
        table = stage.chat.inspector.table()
        assert table is not None and [row.name for row in table.rows if row.more[1] != "✕"] == ["·red", "·light"]
        stage.chat.inspector.candidates.focus()
        await stage.pilot.pause()
        formula = stage.chat.inspector.formula()
        assert formula is not None and "then rank" in "".join(text for text, _ in formula.parts)
        gate.set()
        await stage.until(lambda: stage.ended)


@pytest.mark.slow
async def test_paths_have_the_verdict_on_their_equations_and_open_into_steps(play: Play) -> None:
    async with play(searching()) as stage:
        await choose(stage, "vote 3")
        await stage.ask(ASK)
        best = stage.chat.query_one(BestTexts)
        await stage.until(lambda: best.ranking is not None and "1 of 2 hold" in stage.picture())
        assert "✓ 3" in stage.picture() and "✗ 27 / 3 = 8" in stage.picture() and not stage.chat.pane.view.shared
        best.focus()
        await stage.pilot.press("up", "up", "up", "v")
        await stage.until(lambda: "├─ 2 9 * 4 = 36." in stage.picture())
        assert best.ranking is not None and [step.text for step in best.ranking.steps] == [
            "27 / 3 = 9 groups.", "9 * 4 = 36.", "She gets 40 - 36 = 4.",
        ]  # fmt: skip
        await stage.until(lambda: best.size.height == 7)
        await stage.pilot.click(best, offset=(8, 3))  # a step: nothing is picked by it
        await stage.pilot.pause()
        assert best.at == 0
        await stage.pilot.click(best, offset=(8, 5))  # the row under the opened one
        await stage.until(lambda: best.at == 1 and "✗ 27 / 3 = 8" in stage.picture())
        await stage.pilot.press("v")
        await stage.until(lambda: best.size.height == 4)
