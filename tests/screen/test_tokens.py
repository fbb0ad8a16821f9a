"""Tokens of an answer: walked and clicked, what could have stood there, branches, heat, folds, Markdown and copies."""

from pathlib import Path

import numpy as np
import pytest

from likely.app.tui.widgets.transcript.token_view import TokenView
from likely.engine.chat.conversation import Fork, Message
from tests.support.model import ANSWER, SKY, THOUGHT, ScriptedEngine
from tests.support.screen import Screen

ASK = "Why is the sky blue?"


def say(screen: Screen, text: str = ASK) -> Screen:
    screen.say(text)
    return screen


def looked_at(screen: Screen) -> str:
    """What the panel is headed by."""
    return next(line.partition("▏  ")[2] for line in screen.lines if "TOKEN " in line or "NEXT  " in line)


def panel(screen: Screen) -> list[list[str]]:
    """The rows of the candidates: a token, its raw share and what became of it."""
    begin = next(y for y, line in enumerate(screen.lines) if "raw %" in line) + 1
    return [line.partition("▏")[2].split() for line in screen.lines[begin : begin + 10]]


def test_a_cursor_walks_by_token_row_and_surprise_to_the_words_that_were_said(screen: Screen) -> None:
    say(screen).press("tab", "left")
    assert looked_at(screen).startswith("TOKEN 66/67  .")
    screen.press("left")
    assert looked_at(screen).startswith("TOKEN 65/67  ·there")
    screen.press("right", "right", "right")
    assert looked_at(screen).startswith("TOKEN 67/67  <|im_end|>")
    screen.press("home")
    assert looked_at(screen).startswith("TOKEN 63/67  ·less")
    screen.press("up", "up")
    assert looked_at(screen).startswith("TOKEN 4")
    screen.press("n")
    first = looked_at(screen)
    screen.press("n", "N")
    assert looked_at(screen) == first and float(first.split(" bits")[0].split()[-1]) >= 2
    screen.press("ctrl+home")
    assert looked_at(screen).startswith("TOKEN 1/6  Why") and "raw %" in screen.text  # measured when it was looked at
    screen.press("end")
    assert looked_at(screen).startswith("TOKEN 67/67")


def test_what_could_have_stood_there_is_shown_with_its_shares(screen: Screen) -> None:
    say(screen).press("tab", "left", "left")
    rows = panel(screen)
    assert rows[0][:2] == ["▶", "·there"] and rows[0][-2:] == ["89.31", "100.00"]
    assert all(row[-1] == "cut" and row[0] == "┊" for row in rows[1:]) and len(rows) == 10
    step = screen.kept[0].messages()[-1].steps[64]
    assert abs(float(rows[0][-2]) - 100 * 2.718281828459045 ** (step.logprob or 0)) < 0.01
    screen.press("enter")
    assert "enter branch · / type your own · x ban · esc" in screen.text
    screen.press("down", "down", "enter")
    (fork,) = screen.kept[0].forks()
    assert "branch 2/2" in screen.text and "less sensitive fill" in screen.text and fork.at == 64
    assert screen.kept[0].leaf.steps[0].origin == "forced"  # type: ignore[union-attr]
    screen.press("[")
    assert "sensitive there" in screen.text and screen.kept[0].messages()[-1].text == SKY
    screen.press("ctrl+home", "}")
    assert looked_at(screen).startswith("TOKEN 65/67")
    screen.press("3")  # the same token again is not another branch
    assert len(screen.kept[0].nodes) == 3 and "branch 2/2" in screen.text


def test_a_place_is_gone_on_from_with_own_words_or_drawn_again(screen: Screen) -> None:
    say(screen).press("tab", "ctrl+home", "down", "right", "right", "right", "right")
    assert looked_at(screen).startswith("TOKEN 5/67  ·because")
    screen.press("enter", "/")
    screen.say(" Hello")
    assert screen.kept[0].messages()[-1].text.startswith(" The sky looks blue Hello")
    assert "branch 2/2" in screen.text
    screen.click("blue Hello")
    screen.press("right", "b")
    assert "branch 3/3" in screen.text and len(screen.kept[0].nodes) == 4
    assert len(screen.kept[0].options(screen.kept[0].forks()[0])) == 3


@pytest.mark.parametrize("key", ["2", "b"])
def test_a_token_that_was_drawn_a_moment_ago_is_branched_at(tmp_path: Path, key: str) -> None:
    """An answer is put into its conversation once a second, and on the screen as it comes."""
    with Screen(tmp_path, ScriptedEngine(scripts=[SKY])) as screen:
        screen.hold(after=20)
        say(screen).press("tab")
        screen.wait(1)
        for _ in range(3):
            screen.hold(after=10)
            screen.press("end")
        assert looked_at(screen).startswith("TOKEN 50/50")
        screen.press(key)
        assert "branch 2/2" in screen.text and [fork.at for fork in screen.kept[0].forks()] == [49]


def test_a_mouse_is_pressed_on_an_editor_that_was_left_a_moment_ago(screen: Screen) -> None:
    say(screen).press("tab", "e")
    screen.terminal.press("escape")
    screen.wait(0)
    assert f"│ {ASK}" in screen.text  # it is seen still
    screen.click(f"│ {ASK}")
    assert screen.running and screen.said == [ASK, SKY]


def test_a_token_is_forced_and_another_banned_while_the_answer_is_drawn(screen: Screen) -> None:
    screen.hold(after=3)
    say(screen).click("TOKEN 3/3")
    screen.press("down", "down", "f", "x")
    banned = screen.lines[-1]
    screen.release()
    steps = screen.kept[0].messages()[-1].steps
    forced = [step for step in steps if step.origin == "forced"]
    assert len(forced) == 1 and steps.index(forced[0]) in (3, 4)
    assert forced[0].text.strip() in banned or "banned" in banned or "banned" in screen.text
    assert any(type(transform).__name__ == "LogitBias" for transform in steps[-1].recipe.transforms)


def test_a_click_looks_and_another_asks_for_alternatives(screen: Screen) -> None:
    say(screen).click("sunlight far")
    assert "·sunlight" in looked_at(screen)
    screen.click("sunlight far")
    assert "enter branch · / type your own" in screen.text
    screen.press("escape")
    screen.resize(80, 24)
    screen.click("molecules")
    assert "molecules" in "".join(screen.lines[-9:])


def test_words_are_tinted_by_another_figure_or_not_at_all(screen: Screen) -> None:
    say(screen)
    heads = []
    for _ in range(4):
        screen.press("ctrl+t")
        heads.append(screen.lines[-1].strip())
    assert heads == ["heat: entropy", "heat: rank", "heat: off", "heat: surprisal"]


def surprises(engine: ScriptedEngine, message: Message) -> tuple[float, float]:
    """Bits of an answer behind its thought, and behind an empty one, by the law of the script."""
    words = [step.piece.decode() for step in message.steps]
    ends = words.index("</think>")
    whole = [*message.segments[0].node.prompt, *(step.token for step in message.steps)]
    start = len(whole) - len(words)
    texts = whole, [*whole[: start + 2], *whole[start + ends - 1 :]]  # a mark and a line break on either side
    told = []
    for ids in texts:
        rows = [(engine.raw(ids[:i], ids[i]), ids[i]) for i in range(len(ids) - len(words) + ends + 1, len(ids))]
        told.append(-sum(float(row[token] - np.logaddexp.reduce(row.astype(float))) for row, token in rows) / np.log(2))
    return told[0], told[1]


def test_thinking_is_folded_and_markdown_read_or_raw(tmp_path: Path) -> None:
    engine = ScriptedEngine(scripts=[THOUGHT])
    with Screen(tmp_path, engine) as screen:
        screen.hold(after=5)
        say(screen)
        assert "▸ thinking · 5 tokens" in screen.text and "The person" not in screen.text  # as it streams, too
        screen.press("tab", "z")
        assert "▾ thinking" in screen.text and "The person" in screen.text and "bits, without it" not in screen.text
        screen.release()
        assert "asks about light" in screen.text
        behind, without = surprises(engine, screen.kept[0].messages()[-1])
        assert f" · answer {behind:.1f} bits, without it {without:.1f}" in screen.text
        screen.click("▾ thinking")
        assert "asks about light" not in screen.text
        assert "It is Rayleigh scattering:" in screen.text and "```" not in screen.text
        screen.press("m")
        assert "It is **Rayleigh** scattering:" in screen.text and "```python" in screen.text
        screen.press("Y")
        assert screen.clipboard == "print(1 / 400**4)"
        screen.press("m", "y")
        assert screen.clipboard == screen.kept[0].messages()[-1].text.strip() and "answer copied" in screen.lines[-1]


def test_markdown_is_rendered_while_it_streams_and_its_signs_stand_under_the_cursor(tmp_path: Path) -> None:
    with Screen(tmp_path, ScriptedEngine(scripts=[ANSWER])) as screen:
        screen.hold(after=40)
        say(screen)
        rows = [line[:72].rstrip() for line in screen.lines]
        assert " Why it is blue" in rows and " Light scatters in air:" in rows and "    return" not in screen.text
        screen.release()
        rows = [line[:72].rstrip() for line in screen.lines]
        for line in (
            "  • short waves most", "    • see Rayleigh", "  1. red", " │ a quote", "  def f(x):",
            "      return x + 1  # one", "  colour     nm", "  violet    400", " Half **of it",
        ):  # fmt: skip
            assert line in rows, line
        screen.press("tab")
        screen.click("scatters in")
        assert "Light **scatters** in air:" in screen.text
        screen.press("left")
        assert "Light scatters in air:" in screen.text
        for word in ("Rayleigh", "1700", "return"):
            screen.click(word)
            assert word in looked_at(screen)


@pytest.mark.slow
def test_bookmarks_are_kept_and_lead_back_on_any_branch(tmp_path: Path) -> None:
    with Screen(tmp_path) as screen:
        say(screen).press("tab", "K")
        assert "no bookmarks" in screen.lines[-1]
        screen.press("escape", "ctrl+r", "tab", "ctrl+home", "down", "right", "right", "k", "[")
        screen.press("ctrl+home", "right", "right", "escape")
        say(screen, "/mark the question")
        screen.press("ctrl+q")
        id = screen.left or ""
    with Screen(tmp_path, resume=id) as screen:
        screen.press("tab", "K")
        assert "the question" in screen.text and "other branch" in screen.text and "2 found" in screen.text
        screen.press("down", "enter")
        assert "branch 2/2" in screen.text and looked_at(screen).startswith("TOKEN 3/15  ·is")
        screen.press("k", "K")
        assert "1 found" in screen.text
        screen.press("enter")
        assert len(screen.kept[0].marks) == 1


def test_words_are_found_on_every_branch(screen: Screen) -> None:
    say(screen).press("ctrl+r", "ctrl+f")
    screen.type("BLUE")
    assert "4 found" in screen.text and screen.text.count("other branch") == 2
    screen.press("down", "down", "down", "enter")
    assert "branch 1/2" in screen.text and "·blue" in looked_at(screen)
    screen.press("/")
    screen.type("nowhere")
    assert "0 found" in screen.text or "nothing" in screen.text
    screen.press("escape", "escape")
    say(screen, "/find gases").press("enter")
    assert "branch 2/2" in screen.text and "·gases" in looked_at(screen)


def test_what_is_put_away_is_out_of_sight_and_comes_back(tmp_path: Path) -> None:
    with Screen(tmp_path) as screen:
        say(screen).press("ctrl+r", "tab", "left", "delete")
        assert "u brings it back" in screen.lines[-1] and SKY.strip()[:50] in screen.text
        assert "TREE  1 leaf" in screen.text and "branch" not in screen.text.partition("▏")[0]
        screen.press("u")
        assert "it is back" in screen.lines[-1] and "TREE  2 leaves" in screen.text
        screen.press("left", "delete", "ctrl+home", "delete")
        assert "0/8192 ctx" in screen.lines[0]
        screen.press("ctrl+q")
        id = screen.left or ""
    with Screen(tmp_path, resume=id) as screen:
        (talk,) = screen.kept
        assert len(talk.nodes) == 3 and talk.pruned
        say(screen, "/restore")
        assert not screen.kept[0].pruned
        say(screen, "/restore")
        assert "nothing is put away" in screen.lines[-1]


def test_where_an_adapter_has_a_posterior_a_token_shows_how_much_is_doubt(screen: Screen) -> None:
    say(screen, "/adapter few-rows")
    say(screen).press("tab", "left", "left")
    for size in ((120, 40), (80, 24), (60, 20)):
        screen.resize(*size)
        screen.wait(2)
        assert "±" in screen.text, size


@pytest.mark.slow(4)
def test_a_conversation_of_many_thousand_tokens_opens_at_its_end_and_walks_to_its_top(tmp_path: Path) -> None:
    long = " ".join(f"{'etaoin'[: i % 6 + 1]}{'.' if i % 40 else '.' + chr(10)}" for i in range(4000))
    with Screen(tmp_path, ScriptedEngine(scripts=[long]), size=(80, 24)) as screen:
        say(screen).press("ctrl+q")
        id = screen.left or ""
    with Screen(tmp_path, ScriptedEngine(), size=(80, 24), resume=id) as screen:
        end = [line[:78] for line in screen.lines[2:12]]
        screen.press("tab", "pageup", "pageup", "pageup", "pagedown", "pagedown", "pagedown", "end")
        assert [line[:78] for line in screen.lines[2:12]] == end
        screen.press("ctrl+home")
        assert ASK in screen.text
        assert Fork() in screen.kept[0].children


@pytest.mark.parametrize("anew", (False, True))
def test_the_scroll_bar_shows_which_part_of_the_text_is_seen(tmp_path: Path, anew: bool) -> None:
    with Screen(tmp_path, ScriptedEngine(scripts=[SKY * 3]), size=(60, 14)) as screen:
        screen.hold(after=90)
        say(screen)
        for key in ("", "", "", "tab", "pageup", "pageup", "less_than_sign", "end"):  # tokens come, then they are read
            screen.hold(after=12 if not key else 0)
            screen.press(*filter(None, [key]))
            screen.wait()
            if anew:
                screen.resize(60, 14)
            view = screen.app.screen.query_one(TokenView)
            at, rows, height = view.scroll_offset.y, view.size.height, view.virtual_size.height
            bar = [row[view.region.right - 1] for row in screen.terminal.cells[view.region.y : view.region.bottom]]
            share = rows / height
            for y, (sign, ink) in enumerate(bar):  # how much of a cell is of the thumb, and how much ought to be
                eighths = 8 if ink.startswith("7;") and sign == " " else " ▁▂▃▄▅▆▇".index(sign)
                eighths = 8 - eighths if ink.startswith("7;") and sign != " " else eighths
                ought = min(y + 1, (at + rows) * share) - max(y, at * share)
                assert abs(eighths - 8 * max(ought, 0)) <= 1.5, (key, bar)


def test_at_a_fork_whose_answer_has_no_token_yet_the_cursor_is_before_it(screen: Screen) -> None:
    screen.say("Why is the sky blue?")
    screen.hold(after=0)
    screen.press("ctrl+r", "escape")
    screen.release()
    screen.press("tab", "ctrl+home", "}")
    assert "branch 2/2 · stopped" in screen.text and looked_at(screen).startswith("TOKEN 6/6  ?")
    screen.press("left")
    assert looked_at(screen).startswith("TOKEN 5/6  ·blue")
