"""The chat screen with a scripted engine: every action, by its state."""

from pathlib import Path
from threading import Event

import pytest

from app.heat import MARKED
from app.store import Store
from app.tui.dialogs.overlays import Alternatives
from app.tui.tokens.layout import Spot, TokenPlace
from app.tui.widgets.place_editor import PlaceEditor
from engine.conversation import Fork
from tests.support.model import BLUE, SKY, THOUGHT, ScriptedEngine
from tests.tui.conftest import Play

ASK = "Why is the sky blue?"


def held(engine: ScriptedEngine, at: int) -> None:
    """Make the engine wait before a token until it is told to go on, or its run is cancelled."""
    engine.gate = Event()  # type: ignore[attr-defined]

    def pace(drawn: int) -> None:
        if drawn == at:
            engine.gate.wait(5)  # type: ignore[attr-defined]

    engine.pace = pace


async def test_an_answer_streams_and_is_looked_at(play: Play) -> None:
    async with play() as stage:
        await stage.ask(ASK)
        assert stage.texts == [ASK, SKY]
        view = stage.panel.view
        assert view is not None and view.live and view.rows[0].chosen
        assert abs(sum(row.after or 0 for row in view.rows) - 1) < 0.05
        assert any(row.removed_by for row in view.rows) and "top-p" in view.cut_by + "min-p"
        answer = stage.shown[1]
        assert len(stage.chat.look.bits) == len(answer.steps) == len(answer.block.tokens)
        assert stage.chat.talk.conversation.leaf.finish == "eot"  # type: ignore[union-attr]
        assert {token.level for token in answer.block.tokens} > {0}


async def test_stop_keeps_the_partial_answer_and_continue_goes_on(play: Play) -> None:
    engine = ScriptedEngine()
    held(engine, 5)
    async with play(engine) as stage:
        await stage.type(ASK)
        await stage.until(lambda: len(stage.shown) == 2 and len(stage.shown[1].steps) == 5)
        await stage.pilot.press("escape")
        engine.gate.set()  # type: ignore[attr-defined]
        await stage.until(lambda: not stage.chat.talk.running)
        assert stage.texts[1] == " The sky looks blue because"
        assert "stopped" in stage.chat.talk.transcript.note(1)
        engine.pace = lambda _: None
        stage.chat.action_resume()
        await stage.until(lambda: stage.ended and stage.texts[-1] == SKY)
        assert [node.joins for node in stage.chat.talk.conversation.nodes.values()] == [False, False, True]


async def test_enter_while_answering_keeps_the_text(play: Play) -> None:
    engine = ScriptedEngine()
    held(engine, 2)
    async with play(engine) as stage:
        await stage.type(ASK)
        await stage.until(lambda: stage.chat.talk.running)
        await stage.type("and red?")
        assert stage.chat.composer.text == "and red?" and "esc" in stage.chat.hints.news
        engine.gate.set()  # type: ignore[attr-defined]
        await stage.until(lambda: stage.ended)


@pytest.mark.slow
async def test_regenerate_makes_a_sibling(play: Play) -> None:
    async with play() as stage:
        await stage.ask(ASK)
        stage.chat.talk.new_seed = lambda: 1
        await stage.pilot.press("ctrl+r")
        await stage.until(lambda: stage.ended and stage.texts[-1] == BLUE)
        assert "branch 2/2" in stage.chat.talk.transcript.note(1)
        assert len(stage.chat.inspector.tree_pane.ways) == 3
        stage.chat.pane.view.focus()
        await stage.pilot.press("left_square_bracket")
        assert stage.texts[-1] == SKY


@pytest.mark.slow
async def test_sliders_redraw_and_go_live(play: Play) -> None:
    engine = ScriptedEngine()
    held(engine, 6)
    async with play(engine) as stage:
        await stage.type(ASK)
        await stage.until(lambda: len(stage.shown) == 2 and len(stage.shown[1].steps) == 6)
        before = stage.panel.view
        stage.sampler.focus()
        calls = len(engine.calls)
        await stage.pilot.press("shift+right")  # temperature 0.80 -> 1.30
        after = stage.panel.view
        assert before is not None and after is not None and before.rows != after.rows
        assert len(engine.calls) == calls  # no model was asked
        engine.gate.set()  # type: ignore[attr-defined]
        await stage.until(lambda: stage.ended)
        recipes = [step.recipe for step in stage.shown[1].steps]
        assert recipes[0] != recipes[-1] == stage.chat.talk.sampling.recipe
        await stage.pilot.press("0")
        assert stage.chat.talk.sampling.values["temp"] == 1.0
        await stage.pilot.press("up", "greater_than_sign")
        assert stage.chat.talk.sampling.order_name == "own"
        assert "must be in (0, 100], got -9" in stage.sampler.type_value("temp", "-9")
        await stage.pilot.pause()
        assert stage.chat.talk.sampling.values["temp"] == 1.0
        await stage.pilot.press("p")
        await stage.pilot.press("enter")  # the first preset
        assert stage.chat.talk.sampling.recipe.greedy


@pytest.mark.slow
async def test_exact_numbers_follow_the_sliders(play: Play) -> None:
    async with play() as stage:
        await stage.ask(ASK)
        stage.chat.pane.view.focus()
        await stage.pilot.press("left", "left")
        stage.chat.inspector.outcomes.clear()
        view = stage.chat.inspector.table()
        assert view is not None
        if not view.exact:
            stage.chat.inspector.ask()
            await stage.until(lambda: stage.chat.inspector.table() is not None and stage.chat.inspector.table().exact)  # type: ignore[union-attr]


@pytest.mark.slow
async def test_the_cursor_walks_everything_and_scores_the_prompt(play: Play) -> None:
    async with play() as stage:
        await stage.ask(ASK)
        view = stage.chat.pane.view
        view.focus()
        await stage.pilot.press("left")
        assert view.cursor == TokenPlace(1, len(view.blocks[1].tokens) - 2)
        assert stage.panel.view is not None and not stage.panel.view.live
        await stage.pilot.press("up", "up", "up", "up", "up", "up", "up")
        assert view.cursor is not None and view.cursor.block == 0
        await stage.until(lambda: view.blocks[0].scored, "a scored prompt")
        step = stage.chat.talk.transcript.step_at(view.cursor)
        assert step is not None and step.origin == "given" and step.logprob is not None
        assert [call for call, _ in stage.engine.calls].count("score") == 1
        assert stage.texts[0] == ASK == "".join(token.text for token in view.blocks[0].tokens)
        await stage.pilot.press("n")
        assert view.cursor.block == 1 and view.blocks[1].tokens[view.cursor.token].level >= MARKED
        first = view.cursor
        await stage.pilot.press("n")
        assert view.cursor > first
        await stage.pilot.press("N")
        assert view.cursor == first
        await stage.pilot.press("end")
        assert view.cursor is None and view.following


@pytest.mark.slow
async def test_branch_from_the_menu_and_come_back(play: Play) -> None:
    async with play() as stage:
        await stage.ask(ASK)
        chat = stage.chat
        chat.pane.view.focus()
        chat.pane.view.move_to(TokenPlace(1, 8))
        await stage.pilot.press("enter")
        assert isinstance(stage.app.screen, Alternatives)
        await stage.pilot.press("down", "down", "enter")
        await stage.until(lambda: stage.ended and len(chat.talk.conversation.nodes) == 3)
        branch = chat.talk.conversation.leaf
        assert branch is not None and branch.joins and branch.steps[0].origin == "forced"
        assert [step.token for step in chat.talk.transcript.shown[1].steps[:8]] == [
            step.token for step in chat.talk.conversation.nodes[branch.fork.node].steps[:8]
        ]
        prompt = stage.engine.calls[-1][1] if stage.engine.calls[-1][0] == "generate" else stage.engine.calls[-2][1]
        assert len(prompt) > 8
        await stage.pilot.press("left_square_bracket")
        assert stage.texts[1] == SKY
        chat.pane.view.move_to(TokenPlace(1, 40))
        await stage.pilot.press("left_curly_bracket")
        assert chat.pane.view.cursor == TokenPlace(1, 8)
        # the same token again is not another branch
        option = chat.talk.conversation.options(chat.talk.transcript.fork_at(TokenPlace(1, 8)))[1]
        assert option is not None
        chat.pane.take(TokenPlace(1, 8), chat.talk.conversation.nodes[option].steps[0].token)
        await stage.pilot.pause()
        assert len(chat.talk.conversation.nodes) == 3 and chat.talk.conversation.leaf is not None
        assert chat.talk.conversation.leaf.id == option


@pytest.mark.slow
async def test_type_your_own_words_and_resample(play: Play) -> None:
    async with play() as stage:
        await stage.ask(ASK)
        chat = stage.chat
        chat.pane.view.focus()
        chat.pane.view.move_to(TokenPlace(1, 4))
        await stage.pilot.press("enter", "slash", *" Hello", "enter")
        await stage.until(lambda: stage.ended and len(chat.talk.conversation.nodes) == 3)
        assert stage.texts[1].startswith(" The sky looks blue Hello")
        chat.pane.view.move_to(TokenPlace(1, 4))
        await stage.pilot.press("b")
        await stage.until(lambda: stage.ended and len(chat.talk.conversation.nodes) == 4)
        assert len(chat.talk.conversation.options(chat.talk.conversation.forks()[0])) == 3
        chat.pane.view.move_to(TokenPlace(1, 9))
        await stage.pilot.press("3")
        await stage.until(lambda: stage.ended and len(chat.talk.conversation.nodes) == 5)


@pytest.mark.slow
async def test_edit_reruns_and_loses_nothing(play: Play) -> None:
    async with play() as stage:
        await stage.ask(ASK)
        stage.chat.pane.view.focus()
        stage.chat.pane.view.move_to(TokenPlace(0, 0))
        await stage.pilot.press("e")
        await stage.until(lambda: isinstance(stage.app.focused, PlaceEditor))
        box = stage.app.focused
        assert isinstance(box, PlaceEditor) and box.text == ASK
        box.take("Why red ?")
        await stage.pilot.press("enter")
        await stage.until(lambda: stage.ended and stage.texts[0] == "Why red ?")
        assert stage.texts == ["Why red ?", SKY]
        stage.chat.pane.view.focus()
        stage.chat.pane.view.move_to(TokenPlace(0, 0))
        await stage.pilot.press("right_square_bracket")
        assert stage.texts == [ASK, SKY]


@pytest.mark.slow
async def test_force_and_ban(play: Play) -> None:
    engine = ScriptedEngine()
    held(engine, 3)
    async with play(engine) as stage:
        await stage.type(ASK)
        # the panel looks a few times a second: until it has, its rows may still change
        await stage.until(lambda: stage.panel.view is not None and stage.panel.view.title == "TOKEN 3/3")
        stage.panel.focus()
        await stage.pilot.press("down", "down", "f")
        forced = stage.panel.selected
        await stage.pilot.press("x")
        await stage.until(lambda: stage.chat.talk.sampling.bias, "a ban")
        assert forced is not None and stage.chat.talk.sampling.bias == {forced.token: -100.0}
        engine.gate.set()  # type: ignore[attr-defined]
        await stage.until(lambda: stage.ended)
        steps = stage.shown[1].steps
        assert forced.token in [step.token for step in steps if step.origin == "forced"]
        assert any(type(t).__name__ == "LogitBias" for t in steps[-1].recipe.transforms)


@pytest.mark.slow
async def test_step_mode_lets_the_person_choose(play: Play) -> None:
    async with play() as stage:
        await stage.ask(ASK)
        await stage.pilot.press("ctrl+n")
        stage.chat.talk.new_seed = lambda: 0
        engine, chat = stage.engine, stage.chat
        held(engine, 0)
        await stage.type("Hello")
        await stage.until(lambda: chat.talk.running)
        await stage.pilot.press("escape")
        engine.gate.set()  # type: ignore[attr-defined]
        engine.pace = lambda _: None
        await stage.until(lambda: not chat.talk.running)
        chat.pane.view.focus()
        await stage.pilot.press("s")
        await stage.until(lambda: chat.talk.peek is not None and not chat.talk.running)
        assert stage.panel.has_focus and stage.panel.view is not None and stage.panel.view.title == "NEXT"
        await stage.pilot.press("down", "enter")
        await stage.until(lambda: not chat.talk.running and len(chat.talk.transcript.shown[-1].steps) == 1)
        assert chat.talk.transcript.shown[-1].steps[0].origin == "forced"
        await stage.pilot.press("space")
        await stage.until(lambda: not chat.talk.running and len(chat.talk.transcript.shown[-1].steps) == 2)
        await stage.pilot.press("escape")
        assert not chat.talk.stepping and chat.talk.conversation.leaf.finish == "cancelled"  # type: ignore[union-attr]


@pytest.mark.slow
async def test_prefill_begins_the_answer(play: Play) -> None:
    async with play() as stage:
        await stage.ask(ASK)
        await stage.type("/prefill Hello ,")
        await stage.until(lambda: stage.ended and stage.texts[-1].startswith("Hello ,"))
        assert len(stage.chat.talk.conversation.options(Fork(stage.chat.talk.conversation.messages()[0].last.id))) == 2


@pytest.mark.slow
async def test_thinking_folds_and_markdown_renders(play: Play) -> None:
    async with play(ScriptedEngine(scripts=[THOUGHT])) as stage:
        await stage.ask(ASK)
        block = stage.chat.pane.view.blocks[1]
        assert block.thinking is not None and block.folded
        folded = block.rows
        stage.chat.pane.view.focus()
        await stage.pilot.press("z")
        assert not block.folded and block.rows > folded
        assert "It is Rayleigh scattering:" in stage.picture() and "```" not in stage.picture()
        await stage.pilot.press("m")
        assert "It is **Rayleigh** scattering:" in stage.picture() and "```python" in stage.picture()
        await stage.pilot.press("Y")
        assert stage.app.clipboard == "print(1 / 400**4)"
        await stage.pilot.press("m")
        assert "It is Rayleigh scattering:" in stage.picture()
        await stage.pilot.press("y")
        assert stage.app.clipboard.startswith("<think>") or "Rayleigh" in stage.app.clipboard


@pytest.mark.slow
async def test_heat_can_be_another_number_or_off(play: Play) -> None:
    async with play() as stage:
        await stage.ask(ASK)
        levels = []
        for _ in range(4):
            levels.append([token.level for token in stage.chat.pane.view.blocks[1].tokens])
            await stage.pilot.press("ctrl+t")
        assert levels[3] == [0] * len(levels[3]) and len({tuple(each) for each in levels}) == 4


@pytest.mark.slow
async def test_history_completion_and_commands(play: Play) -> None:
    async with play() as stage:
        await stage.ask(ASK)
        prompt = stage.chat.composer
        await stage.pilot.press("up")
        assert prompt.text == ASK
        await stage.pilot.press("down")
        assert prompt.text == ""
        await stage.pilot.press(*"/pre", "tab")
        assert prompt.text == "/prefill "
        await stage.pilot.press("tab")
        assert prompt.text == "/preset "
        await stage.type("/preset wild")
        assert stage.chat.talk.sampling.preset_name == "wild"
        await stage.type("/save-preset mine")
        await stage.type("/preset greedy")
        await stage.type("/preset mine")
        assert stage.chat.talk.sampling.preset_name == "wild"
        await stage.type("/nonsense")
        assert "no command" in stage.chat.hints.news
        await stage.type("/system Be brief")
        assert stage.chat.talk.conversation.system == "Be brief"
        await stage.type("/set top_k 40")
        assert stage.chat.talk.sampling.values["top_k"] == 40
        await stage.type("/order llama.cpp")
        assert stage.chat.talk.sampling.order_name == "llama.cpp"
        await stage.ask("//a slash")
        assert stage.texts[-2] == "/a slash"


@pytest.mark.slow
async def test_step_mode_that_is_left_at_once_leaves_an_answer_as_it_ended(play: Play, tmp_path: Path) -> None:
    async with play() as stage:
        await stage.ask(ASK)
        talk = stage.chat.talk
        before, note = talk.conversation, talk.transcript.note(1)
        stage.chat.pane.view.focus()
        await stage.pilot.press("s")
        await stage.until(lambda: talk.peek is not None)
        store = Store(tmp_path / "saved.db")
        store.save(talk.conversation)  # as if the program had ended here
        await stage.pilot.press("escape")
        assert not talk.stepping and talk.transcript.note(1) == note and "stopped" not in stage.picture()
        assert talk.conversation.nodes == before.nodes and talk.conversation.leaf == before.leaf
        kept = store.load(talk.conversation.id).leaf
        assert kept is not None and kept.finish == "eot"


async def test_what_others_call_a_command_is_understood(play: Play) -> None:
    async with play() as stage:
        await stage.ask(ASK)
        await stage.type("/retry 0.3")
        await stage.until(lambda: stage.ended and len(stage.chat.talk.conversation.nodes) == 3)
        assert stage.shown[1].steps[0].recipe.transforms != stage.chat.talk.sampling.recipe.transforms
        assert "T 0.30" in stage.chat.talk.transcript.note(1)  # this answer alone
        assert stage.chat.talk.sampling.values["temp"] == 0.8 == stage.sampler.sampling.values["temp"]
        await stage.type("/redo temp")
        assert "must be a number" in stage.chat.hints.news
        await stage.type("/redo temp -9")
        assert "must be in" in stage.chat.hints.news and len(stage.chat.talk.conversation.nodes) == 3
        kept = stage.chat.talk.sampling
        await stage.type("/set top_k 3 temp -9")  # all of a line or nothing
        assert "must be in" in stage.chat.hints.news and stage.chat.talk.sampling == kept
        await stage.type("/set temp 2.5 top_k 3")
        assert stage.chat.talk.sampling.values == {**kept.values, "temp": 2.5, "top_k": 3}
        assert "temp 2.5" in stage.chat.hints.news and "top_k 3" in stage.chat.hints.news
        await stage.type("/rename")
        await stage.pilot.press("end", *" one", "enter")
        assert stage.chat.talk.conversation.title.endswith(" one")
        await stage.type("/system")
        await stage.pilot.press(*"Be brief.", "ctrl+j", *"Be kind.", "enter")
        assert stage.chat.talk.conversation.system == "Be brief.\nBe kind."
        await stage.type("/system")
        assert "Be kind." in stage.picture()
        await stage.pilot.press("escape")
        await stage.type("/copy tokens")
        rows = stage.app.clipboard.splitlines()
        assert rows[0].startswith("who\ttoken\ttext") and len(rows) == 1 + len(stage.shown[1].steps)
        await stage.type("/copy markdown")
        assert "**you**" in stage.app.clipboard
        await stage.type("/copy nothing")
        assert "/copy is one of" in stage.chat.hints.news


@pytest.mark.slow
async def test_tokens_are_guessed_ahead_where_it_is_asked_for(play: Play) -> None:
    async with play() as stage:
        await stage.type("/strategy ngram")
        await stage.ask(ASK)
        await stage.type("/strategy plain")
        await stage.ask("and red?")
        assert [name for name in stage.engine.strategies if name] == ["ngram"]
        await stage.type("/strategy draft")
        assert "expected draft MODEL" in stage.chat.hints.news


@pytest.mark.slow
async def test_attach_a_file_with_its_tokens_counted(play: Play, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("Blue light is scattered\x1b[31m ```here```")
    (tmp_path / "bytes.bin").write_bytes(b"\xff\xfe\x00")
    (tmp_path / "big.txt").write_text("Blue light " * 9000)
    async with play() as stage:
        await stage.pilot.press(*"look @no", "tab")
        assert stage.chat.composer.text == "look @notes.txt"
        await stage.pilot.press("enter")
        await stage.until(lambda: stage.ended)
        assert "````notes.txt\nBlue light" in stage.texts[0]
        assert "\x1b" not in stage.picture()
        await stage.type("@bytes.bin")
        assert "not UTF-8" in stage.chat.hints.news
        await stage.type("@big.txt")
        await stage.until(lambda: "are left of the context" in stage.chat.hints.news)
        assert len(stage.shown) == 2


@pytest.mark.slow
async def test_a_file_that_is_not_there_is_said_and_a_name_stays_a_word(play: Play) -> None:
    engine, gate = ScriptedEngine(), Event()
    engine.pace = lambda drawn: gate.wait(5)  # type: ignore[assignment,return-value]
    async with play(engine) as stage:
        await stage.type("@noets.txt says what?")
        await stage.until(lambda: "there is no file noets.txt here" in stage.chat.hints.news, "a word about it")
        assert stage.texts[0] == "@noets.txt says what?"
        gate.set()
        await stage.until(lambda: stage.ended)
        gate.clear()
        await stage.type("Ask @alice. She knows")
        await stage.until(lambda: stage.chat.talk.running)
        assert stage.chat.hints.news == ""
        gate.set()
        await stage.until(lambda: stage.ended)


async def test_a_huge_paste_is_attached(play: Play) -> None:
    from textual import events

    async with play() as stage:
        stage.chat.composer.post_message(events.Paste("x" * 1_000_000))
        await stage.until(lambda: "1000000 characters" in stage.chat.hints.news)
        assert stage.chat.composer.text == ""
        await stage.pilot.press("escape")
        assert not stage.chat.composer.attached


@pytest.mark.slow
async def test_the_engine_failing_keeps_the_text(play: Play) -> None:
    engine = ScriptedEngine()
    engine.fail_at = 4
    async with play(engine) as stage:
        await stage.type(ASK)
        await stage.until(lambda: "the engine stopped" in stage.chat.hints.news)
        assert stage.texts[1] == " The sky looks blue" and stage.chat.hints.alarm
        engine.fail_at = None
        await stage.type("/reload")
        await stage.until(lambda: stage.app.engine.current is not None)
        await stage.ask("again")
        assert stage.texts[-1] == SKY


@pytest.mark.slow
async def test_a_message_waits_for_the_model(play: Play) -> None:

    gate = Event()

    class Slow(ScriptedEngine):
        @property
        def facts(self):  # type: ignore[no-untyped-def]
            return self._facts

        @facts.setter
        def facts(self, value):  # type: ignore[no-untyped-def]
            self._facts = value

    async with play(Slow(), loaded=False) as stage:
        gate.set()
        await stage.type(ASK)
        await stage.until(lambda: stage.ended)
        assert stage.texts == [ASK, SKY]


@pytest.mark.slow
async def test_models_are_offered_and_switched(play: Play) -> None:
    other = ScriptedEngine("other", scripts=[BLUE])
    async with play(ScriptedEngine(), other) as stage:
        await stage.ask(ASK)
        await stage.type("/model")
        await stage.until(lambda: getattr(stage.app.screen, "offers", ()), "offers")
        assert "too big" in stage.picture()
        await stage.pilot.press("down", "enter")
        await stage.until(lambda: stage.app.engine.current is not None and stage.app.engine.current.name == "other")
        await stage.ask("and now?")
        assert stage.texts[-1] == BLUE
        await stage.type("/model missing")
        await stage.until(lambda: "no model missing" in stage.chat.hints.news)
        assert stage.app.engine.current is not None and stage.app.engine.current.name == "other"


@pytest.mark.slow
async def test_the_reader_is_not_scrolled_away(play: Play) -> None:
    engine = ScriptedEngine(scripts=[SKY * 12])
    held(engine, 700)
    async with play(engine, size=(80, 24)) as stage:
        await stage.type(ASK)
        await stage.until(lambda: len(stage.shown) == 2 and len(stage.shown[1].steps) == 700)
        view = stage.chat.pane.view
        assert view.following and view.scroll_offset.y == view.max_scroll_y
        view.focus()
        await stage.pilot.press("pageup", "pageup")
        top = view.scroll_offset.y
        assert not view.following
        engine.gate.set()  # type: ignore[attr-defined]
        await stage.until(lambda: stage.ended)
        await stage.until(lambda: "new tokens" in stage.picture())
        assert view.scroll_offset.y == top
        await stage.pilot.press("end")
        assert view.following and view.scroll_offset.y == view.max_scroll_y


@pytest.mark.slow
async def test_a_terminal_shrunk_in_mid_stream(play: Play) -> None:
    engine = ScriptedEngine()
    held(engine, 10)
    async with play(engine) as stage:
        await stage.type(ASK)
        await stage.until(lambda: len(stage.shown) == 2 and len(stage.shown[1].steps) == 10)
        await stage.pilot.resize_terminal(20, 5)
        await stage.pilot.pause()
        assert stage.chat.composer.size.height == 1 and stage.chat.pane.view.size.height >= 1
        engine.gate.set()  # type: ignore[attr-defined]
        await stage.until(lambda: stage.ended)
        await stage.pilot.resize_terminal(120, 40)
        await stage.pilot.pause()
        assert stage.texts[1] == SKY and "dominate" in stage.picture()


async def test_control_characters_never_reach_the_terminal(play: Play) -> None:
    async with play(ScriptedEngine(scripts=["\x1b]52;c;aGk=\x07\x1b[2J\u202e\x9b end"])) as stage:
        await stage.ask("a\x1b[31mb")
        picture = stage.picture()
        assert "␛" in picture and not any(ord(character) < 32 and character != "\n" for character in picture)
        assert "\x9b" not in picture and "\u202e" not in picture


@pytest.mark.slow
async def test_click_looks_and_again_branches(play: Play) -> None:
    async with play() as stage:
        await stage.ask(ASK)
        view = stage.chat.pane.view
        x, y = view.layout_.cell_of(TokenPlace(1, 3))
        await stage.pilot.click(view, offset=(x + 1, y - view.scroll_offset.y))
        assert view.cursor == TokenPlace(1, 3)
        await stage.pilot.click(view, offset=(x + 1, y - view.scroll_offset.y))
        assert isinstance(stage.app.screen, Alternatives)


@pytest.mark.slow
async def test_help_names_keys_and_commands(play: Play) -> None:
    async with play() as stage:
        await stage.pilot.press("f1")
        picture = stage.picture()
        assert "prompt" in picture and "send" in picture
        await stage.pilot.press("escape")
        assert stage.app.screen is stage.chat


@pytest.mark.slow
async def test_keys_can_be_remapped_and_mistakes_are_named(play: Play, tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    (home / "keys.toml").write_text('[chat]\nheat = "f9"\n')
    async with play() as stage:
        await stage.ask(ASK)
        await stage.pilot.press("f9")
        assert stage.chat.talk.transcript.heat == "entropy"
    (home / "keys.toml").write_text('[chat]\nhaet = "f9"\n')
    async with play() as stage:
        assert "did you mean chat.heat" in stage.chat.hints.news


async def test_selection_is_copied_without_soft_breaks(play: Play) -> None:
    async with play(size=(60, 24)) as stage:
        await stage.ask(ASK)
        from textual.geometry import Offset
        from textual.selection import Selection

        view = stage.chat.pane.view
        start, end = Spot(1, 0, 0).number, Spot(1, 0, 1).number
        text, _ = view.get_selection(Selection(Offset(1, start), Offset(5, end)))  # type: ignore[misc]
        assert "\n" not in text and text == SKY.strip()[: len(text)]


async def test_what_is_typed_before_the_chat_is_there_is_kept(tmp_path: Path) -> None:
    from app.tui.app import LikelyApp
    from app.tui.dialogs.opening import Opening
    from app.tui.widgets.composer import Composer
    from tests.support.model import ScriptedShop

    class Held(LikelyApp):
        def _begin(self) -> None:
            """Only when the test says so."""

    app = Held(ScriptedShop, tmp_path / "home", environ={})
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert isinstance(app.screen, Opening)
        await pilot.press(*"Hello")
        LikelyApp._begin(app)
        for _ in range(300):
            await pilot.pause(0.01)
            if app.session is not None and app.engine.current is not None:
                break
        composer = app.views[0].query_one(Composer)
        assert composer.text == "Hello" and composer.has_focus


@pytest.mark.slow
async def test_the_line_for_narrow_screens_is_there_after_shrinking(play: Play) -> None:
    async with play(size=(120, 40)) as stage:
        await stage.ask("Why is the sky blue?")
        await stage.pilot.pause(1.0)  # nothing that the answer set going is left to fill the line
        await stage.pilot.resize_terminal(80, 24)
        await stage.until(lambda: "bits" in stage.picture().splitlines()[-9], "the token in the drawer")
        await stage.pilot.resize_terminal(80, 20)
        await stage.until(lambda: "bits" in stage.picture().splitlines()[-5], "the token in one line")
