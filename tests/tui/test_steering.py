"""Ways to steer: bans and biases, the palette, the list of commands, attachments."""

from itertools import combinations, product
from pathlib import Path

import pytest
from textual import events
from textual.binding import Binding

from app.recipes import words
from app.tui.chat import attach, slash
from app.tui.dialogs import palette
from app.tui.help import ABOUT
from app.tui.sampling import Sampling
from app.tui.view import View
from app.tui.views import VIEWS
from app.tui.widgets.suggestions import Suggestions
from engine.errors import DataError
from engine.presets import PARAMETERS
from tests.support.model import ScriptedEngine
from tests.tui.conftest import Play


def test_bans_and_biases_are_told_apart_and_lifted() -> None:
    sampling = Sampling().banned(7).biased(9, 2.5).banned(3)
    assert sampling.bans == (7, 3) and sampling.biases == ((9, 2.5),)
    assert words(sampling.recipe).endswith("2 banned · 1 biased")
    assert words(sampling.preset("greedy").recipe) == "greedy · 2 banned · 1 biased"
    assert sampling.banned(7).bans == (3,) and sampling.banned(9).bans == (7, 3, 9)
    assert sampling.lift(9).biases == () and sampling.lift(7).bans == (3,)
    assert Sampling.of(sampling.recipe).bias == sampling.bias


@pytest.mark.slow
async def test_a_ban_is_listed_named_in_the_recipe_and_lifted(play: Play) -> None:
    async with play() as stage:
        chat = stage.chat
        await stage.type("/ban sky")
        names = chat.names()
        assert [names.name(token) for token in chat.talk.sampling.bans] == ["sky", "·sky"]
        assert chat.hints.news == "banned: sky, ·sky"
        await stage.type("/bias blue 2.5")
        assert "biased: blue +2.5, ·blue +2.5" in chat.hints.news
        await stage.ask("Why is the sky blue?")
        assert "2 banned · 2 biased" in chat.talk.transcript.note(1)
        offered = {name: do for name, _, do in palette.entries(stage.app.screen)}
        assert "sample: Allow ·sky" in offered and "sample: Allow blue" in offered
        offered["sample: Allow sky"]()
        assert [names.name(token) for token in chat.talk.sampling.bans] == ["·sky"]
        await stage.type("/allow sky")
        assert not chat.talk.sampling.bans and len(chat.talk.sampling.biases) == 2
        await stage.type("/ban unheard-of")
        assert "is not one token" in chat.hints.news
        await stage.type("/bias blue much")
        assert "-100 to 100" in chat.hints.news
        await stage.type("/allow")
        assert not chat.talk.sampling.bias


@pytest.mark.slow
async def test_the_palette_holds_every_command_and_every_key(play: Play) -> None:
    async with play() as stage:
        await stage.ask("Why is the sky blue?")
        for entry in VIEWS.values():
            await stage.pilot.press(entry.key)
            view = stage.app.screen
            assert isinstance(view, View)
            offered = list(palette.entries(view))
            if view is stage.chat:
                assert {slash.usage(name) for name in slash.table()} <= {name for name, _, _ in offered}
            there = {about for name, about, _ in offered if name.startswith("key ")}
            own = [type(view), *(kind for kind in view.PARTS if view.query(kind))]
            bindings = [b for kind in own for b in kind.BINDINGS if isinstance(b, Binding)]
            ids = {b.id for b in bindings if b.id in ABOUT or (b.id and b.tooltip)}
            assert ids <= there and len(ids) >= 4
        await stage.pilot.press("f2")
        does = {about: do for _, about, do in palette.entries(stage.chat)}
        await does["token.mark"]()  # type: ignore[misc]
        await stage.pilot.pause()
        assert stage.chat.talk.conversation.marks
        commands = {name: do for name, _, do in palette.entries(stage.chat)}
        commands["/seed n"]()
        assert stage.chat.composer.text == "/seed "


@pytest.mark.slow
async def test_a_slash_lists_commands_that_are_narrowed_and_run(play: Play) -> None:
    async with play() as stage:
        await stage.pilot.press("slash")
        listed = stage.chat.query_one(Suggestions)
        assert listed.display and "/adapter" in stage.picture() and "switch the model" in stage.picture()
        await stage.pilot.press(*"he")
        assert [each.shown for each in listed.offered][:2] == ["/help", "/heat name"]
        await stage.pilot.press("down", "tab")
        assert stage.chat.composer.text == "/heat " and listed.offered[0].shown == "surprisal"
        await stage.pilot.press("down", "enter")
        assert stage.chat.talk.transcript.heat == "entropy" and not listed.display
        await stage.pilot.press("slash", *"pre", "escape")
        assert not listed.display and stage.chat.composer.text == "/pre"
        await stage.pilot.press(*"set")
        await stage.pilot.press("space", *"gre", "enter")
        assert stage.chat.talk.sampling.preset_name == "greedy"
        await stage.pilot.press("slash", *"hel", "enter")  # what is picked is meant
        await stage.pilot.pause()
        assert stage.app.screen is not stage.chat
        await stage.pilot.press("escape", "up")
        assert stage.chat.composer.text == "/help" and not listed.display


@pytest.mark.slow
async def test_enter_means_what_is_written_and_not_a_list_of_fewer_letters(play: Play) -> None:
    async with play() as stage:
        composer, listed = stage.chat.composer, stage.chat.query_one(Suggestions)
        await stage.pilot.press(*"/heat e")
        assert listed.picked is not None and listed.picked.text == "/heat entropy"
        composer.text += "ntropy please"  # the list has not heard of it yet
        composer.action_send()
        assert composer.prompts[-1] == "/heat entropy please"  # sent as it was written


@pytest.mark.slow
async def test_a_file_is_attached_by_its_path(play: Play, tmp_path: Path) -> None:
    (tmp_path / "my notes.txt").write_text("Blue light is scattered")
    (tmp_path / "big.txt").write_text("Blue light " * 9000)
    async with play() as stage:
        composer, listed = stage.chat.composer, stage.chat.query_one(Suggestions)
        await stage.pilot.press(*"read @")
        assert [each.shown for each in listed.offered] == ["@big.txt", "@home/", "@my notes.txt"]
        composer.take("")
        for paste in (str(tmp_path / "my notes.txt"), (tmp_path / "my notes.txt").as_uri(),
                      str(tmp_path / "my notes.txt").replace(" ", "\\ ") + "\n"):  # fmt: skip
            composer.take("look ")
            composer.post_message(events.Paste(paste))
            await stage.until(lambda: composer.text == f'look @"{tmp_path / "my notes.txt"}" ', "the path")
        await stage.pilot.press("enter")
        await stage.until(lambda: stage.ended)
        assert "```my notes.txt\nBlue light is scattered\n```" in stage.texts[0]
        composer.post_message(events.Paste(str(tmp_path / "big.txt")))
        await stage.until(lambda: composer.text.startswith("@"))
        await stage.pilot.press("enter")
        await stage.until(lambda: "are left of the context" in stage.chat.hints.news)
        assert len(stage.shown) == 2 and composer.text.startswith("@")
        composer.take("")
        composer.post_message(events.Paste("not/a/file"))
        await stage.until(lambda: composer.text == "not/a/file")


def test_every_place_of_two_sliders_is_a_recipe() -> None:
    for one, other in combinations(PARAMETERS.values(), 2):
        for a, b in product((one.low, one.high), (other.low, other.high)):
            sampling = Sampling().with_value(one.name, a).with_value(other.name, b)
            assert sampling.recipe.greedy == (sampling.values["temp"] == 0)
            assert words(sampling.recipe)


@pytest.mark.parametrize("plan", ["search", "lost", "revised", "several"])
async def test_step_mode_looks_at_one_token_whatever_the_strategy_does(play: Play, plan: str) -> None:
    engine = ScriptedEngine()
    async with play(engine) as stage:
        await stage.ask("Why is the sky blue?")
        engine.plan = plan
        stage.chat.pane.view.focus()
        await stage.pilot.press("s")
        await stage.until(lambda: stage.chat.talk.peek is not None and not stage.chat.talk.running, "a token to pick")
        await stage.pilot.press("escape")
        assert not stage.chat.talk.stepping and stage.app._exception is None


def test_a_path_whose_quote_is_not_closed_is_no_word(tmp_path: Path) -> None:
    (tmp_path / "my notes.txt").write_text("x")
    (named,) = attach.found(f'see @"{tmp_path}/my notes.txt"')
    assert named.name == "my notes.txt"
    with pytest.raises(DataError, match="there is no file my: nothing was sent"):
        attach.found('see @"my notes.txt')
