"""Commands that are typed in the chat: what each says, and what it does to the answer, the sampler and the files."""

import re
from pathlib import Path

import pytest

from likely.app.store import export
from likely.app.tui.base.view_table import VIEWS
from likely.app.tui.views.chatting import slash
from likely.app.tui.views.intents import INTENTS
from likely.engine.decode.strategy_table import STRATEGIES
from likely.engine.sampling.transforms import LogitBias
from tests.support.diffuser import ScriptedDiffusion
from tests.support.everyday import everyday
from tests.support.model import BLUE, SKY
from tests.support.screen import Screen

ASK = "Why is the sky blue?"


def heading(screen: Screen) -> str:
    """What stands beside the newest answer's name, as far as the panel."""
    return [line for line in screen.lines if line.startswith(" model")][-1].partition("▏")[0].strip()


def asked(screen: Screen) -> Screen:
    screen.say(ASK)
    return screen


SAID: dict[str, tuple[tuple[str, str], ...]] = {
    "answers": (
        ("/redo temp", "temperature must be a number, got temp"),
        ("/redo temp -9", "temperature must be in (0, 100], got -9.0"), ("/redo x", "must be a number"),
        ("/seed x", "/seed wants a whole number"), ("/max 5", "at most 5 tokens an answer"),
        ("/max 0", "as many tokens"), ("/think off", "thinking is off"),
        ("/think as usual", "left to the chat template"),
        ("/think perhaps", "/think takes on, off, as usual or a number of tokens, got perhaps"),
        ("/think 64", "budget 64: thinking cut short"),
        ("/max x", "/max wants a whole number, got x"), ("/title A\x1b name", "named A"),
        ("/model missing", "there is no model missing"), ("/nonsense", "there is no command /nonsense"),
        ("/zz", "there is no command"),
    ),
    "the sampler": (
        ("/set", "parameters come with their values, as in temp 1.2 top_p 0.9; got none"),
        ("/set temp 0.5 top_k 7", "temp 0.5 top_k 7"), ("/set temp nan", "temperature must be in"),
        ("/preset none", "there is no preset none: greedy, precise, balanced, wild"),
        ("/order none", "there is no order none: mlx-lm, llama.cpp, hugging-face"), ("/save-preset", "/save-preset"),
        ("/save-preset mine", "saved as preset mine: values and order"),
        ("/ban", "nothing is banned"), ("/ban sky", "banned: sky, ·sky"), ("/ban", "banned: sky, ·sky"),
        ("/ban unheard-of", "unheard-of is not one token here: x in the candidates bans the picked one"),
        ("/bias blue 2.5", "banned: sky, ·sky · biased: blue +2.5, ·blue +2.5"),
        ("/bias blue 101", "-100 to 100, got blue 101"), ("/bias blue", "/bias wants a word"),
        ("/allow sky", "biased: blue +2.5, ·blue +2.5"), ("/bias blue -100", "banned: blue, ·blue"),
        ("/allow", "nothing is banned or biased any more"),
    ),
    "strategies": (
        ("/strategy beam 3", "beam 3: the likeliest texts, several at once · of the sampler only bans and biases act"),
        ("/strategy plain", "tokens are found one by one"), ("/strategy beam 0", "the number of beams must be"),
        ("/strategy diverse 4 3", "4 beams cannot be parted into 3 groups"),
        ("/strategy beam many", "must be a number"), ("/strategy best 4", "is no way of drawing"),
        ("/strategy vote 4 x-y", "no rule of extraction"), ("/strategy draft", "expected draft MODEL"),
        ("/strategy draft other", "draft other needs other, which is not loaded"),
    ),
    "adapters": (
        ("/adapter calm", "adapters: calm 1"), ("/adapter calm 0.5", "adapters: calm 0.5"),
        ("/adapter few 2", "adapters: calm 0.5, few 2"), ("/adapter calm only", "adapters: calm 1"),
        ("/adapter few", "adapters: calm 1, few 1"), ("/adapter off", "/adapter off wants a name: calm, few"),
        ("/adapter few off", "adapters: calm 1"), ("/adapter off", "no adapter: the model as it came"),
        ("/adapter off", "there is no adapter on the model"), ("/adapter 0.5", "there is no adapter on the model"),
        ("/adapter calm", "adapters: calm 1"), ("/adapter 0.5", "adapters: calm 0.5"),
        ("/adapter calm off", "no adapter: the model as it came"),
        ("/adapter none", "none is not an adapter's directory: it has no adapter_config.json"),
        ("/adapter ~/none", "HOME/none is not an adapter's directory"),
        ("/steer calm: Be calm. ; Well. | Hurry! @ 12", "adapters: calm 1"),
        ("/steer calm", "/steer NAME: toward ; toward | away ; away @ LAYER"),
        ("/steer calm: a | b | c", "/steer NAME: toward"), ("/steer calm: a | ", "/steer NAME: toward"),
    ),
    "what is looked at": (
        ("/heat entropy", "heat: entropy"), ("/heat 3.5", "heat: entropy from 3.5 bits on"),
        ("/heat none", "heat is one of surprisal, entropy, rank, off, or the bits from which on words are tinted"),
        ("/marks", "there are no bookmarks here"), ("/mark here", "bookmarked · K lists them"),
        ("/restore", "nothing is put away"), ("/copy nothing", "/copy is one of answer, code, markdown, html, tokens"),
        ("/copy code", "there is no code block in this answer"),
        ("/export nothing", "/export wants one of markdown, html, jsonl, and a path if you like"),
        ("/export html no/such/x.html", "no/such"), ("/import none.jsonl", "none.jsonl"),
    ),
}  # fmt: skip


@pytest.mark.slow(3)
@pytest.mark.parametrize("about", SAID)
def test_a_command_says_what_it_did_or_what_it_wants(
    screen: Screen, about: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/HOME")
    asked(screen)
    for typed, line in SAID[about]:
        assert line in screen.say(typed), typed
    assert screen.running and SKY.strip()[:60] in screen.text  # and the answer stands as it stood


def test_what_is_asked_for_with_one_answer_holds_for_it_alone(screen: Screen) -> None:
    asked(screen).say("/redo 0.3")
    assert heading(screen).startswith("model  branch 2/2 · T 0.30 · top-p 0.95 · min-p 0.05 · 15 tok")
    assert any("temperature" in line and line.endswith("0.80") for line in screen.lines)
    assert BLUE.strip()[:60] in screen.text
    screen.say("/set temp 2.5 top_k 3", "/set top_k 4 temp -9")  # all of a line or nothing
    assert any("top-k" in line and line.endswith(" 3") for line in screen.lines)
    screen.say("/seed 0")
    assert heading(screen).startswith("model  branch 3/3 · ") and "T 2.50" in heading(screen)
    assert screen.kept[0].nodes[screen.kept[0].leaf.id].seed == 0  # type: ignore[union-attr]
    screen.say("/max 3", "/redo")
    assert "3 tok" in heading(screen) and "length" in heading(screen)
    screen.say("/continue")
    assert "6 tok" in heading(screen)


def test_words_are_banned_and_the_recipe_says_so(screen: Screen) -> None:
    screen.say("/ban sky", "/bias glow 2.5", ASK)
    assert "top-p 0.95 +3" in heading(screen)
    recipe = screen.kept[0].messages()[-1].steps[0].recipe
    (bias,) = [t for t in recipe.transforms if isinstance(t, LogitBias)]
    assert sorted(value for _, value in bias.bias) == [-100.0, -100.0, 2.5]
    screen.say("/allow sky", "/redo")
    (bias,) = [t for t in screen.kept[0].messages()[-1].steps[0].recipe.transforms if isinstance(t, LogitBias)]
    assert [value for _, value in bias.bias] == [2.5]


def test_presets_are_kept_and_come_back(screen: Screen) -> None:
    screen.say("/preset wild", "/order llama.cpp", "/save-preset mine", "/preset greedy")
    assert "SAMPLER  greedy · mlx-lm order" in screen.text or "SAMPLER  greedy" in screen.text
    screen.say("/preset mine")
    assert "llama.cpp order" in screen.text
    assert any("temperature" in line and line.endswith("1.40") for line in screen.lines)
    assert "mine" in (screen.home / "presets.json").read_text()


def test_a_system_prompt_is_kept_taken_by_its_name_and_dropped(screen: Screen) -> None:
    assert "there is no system prompt: /system writes one" in screen.say("/save-system brief")
    (screen.folder / "long.txt").write_text("Say a lot.\n")
    screen.say("/system Say little.", "/save-system brief")
    for words, told in (("Sing.", "Sing."), ("long.txt", "Say a lot."), ("brief", "Say little.")):
        screen.say(f"/system {words}")
        assert screen.lines[1].startswith(f" ▸ system  {told}")
    screen.press("ctrl+n")
    screen.burst("ctrl+p", *"system prompt brief", "enter")
    assert "system  Say little." in screen.lines[1]
    screen.press("ctrl+n")
    assert "brief is kept no more" in screen.say("/save-system brief")
    screen.say("/system brief")  # words, now
    assert "system  brief" in screen.lines[1]


def test_an_answer_begins_with_given_words(screen: Screen) -> None:
    assert "say something first" in screen.say("/prefill Hello ,")
    screen.say(ASK, "/prefill Hello ,")
    talk = screen.kept[0]
    assert talk.messages()[-1].text.startswith("Hello ,") and heading(screen).startswith("model  branch 2/2")
    assert [step.origin for step in talk.messages()[-1].steps[:3]] == ["forced", "forced", "drawn"]
    screen.say("/prefill The")
    assert heading(screen).startswith("model  branch 3/3") and len(screen.kept[0].messages()) == 2


def test_what_others_call_a_command_is_understood(screen: Screen) -> None:
    asked(screen).say("/rename")
    screen.press("end")
    screen.say(" one")
    assert screen.kept[0].title.endswith(" one")
    screen.say("/system")
    screen.type("Be brief.")
    screen.press("ctrl+j")
    screen.say("Be kind.")
    assert screen.kept[0].system == "Be brief.\nBe kind." and "system  Be brief." in screen.text
    screen.press("escape")
    screen.say("//a slash")
    assert screen.kept[0].messages()[-2].text == "/a slash"
    screen.say("/clear")
    assert "Rayleigh" not in screen.text
    screen.say("/bye")
    assert not screen.running


def test_all_of_a_conversation_is_copied_and_exported_and_opened_again(screen: Screen) -> None:
    asked(screen).say("/mark here", "/copy tokens")
    rows = screen.clipboard.splitlines()
    (talk,) = screen.kept
    assert rows[0].startswith("who\ttoken\ttext") and len(rows) == 1 + len(talk.messages()[-1].steps)
    screen.say("/copy markdown")
    assert "**you**" in screen.clipboard and SKY.strip() in screen.clipboard
    screen.say("/copy")
    assert screen.clipboard == SKY.strip()
    line = screen.say("/export jsonl talk.jsonl")
    found = export.read(screen.folder / "talk.jsonl", "x", 0.0)
    assert "exported" in screen.text and found.nodes.keys() == talk.nodes.keys() and found.marks == talk.marks
    screen.press("escape")
    screen.say("/export page.html")
    screen.press("escape")
    assert "Rayleigh" in (screen.folder / "page.html").read_text()
    screen.press("escape")
    screen.say("/export markdown")
    (path,) = screen.folder.glob("likely-*.md")
    screen.press("escape")
    before = path.read_text()
    screen.say(f"/export markdown {path.name}")  # what is there is asked about
    assert path.name in screen.text and path.read_text() == before
    screen.press("escape")
    line = screen.say("/import talk.jsonl")
    assert "imported talk.jsonl: 2 messages and branches" in line and len(screen.kept) == 2
    assert [talk.messages()[-1].text for talk in screen.kept] == [SKY, SKY]


def test_the_list_of_commands_is_narrowed_picked_from_and_closed(screen: Screen) -> None:
    screen.type("/")
    assert "/adapter" in screen.text and "switch the model" in screen.text
    screen.type("he")
    assert "/help" in screen.text and "/heat name" in screen.text and "/adapter" not in screen.text
    screen.press("down", "tab")
    assert "│ /heat " in screen.text and "entropy" in screen.text
    screen.press("down", "enter")
    assert "heat: entropy" in screen.lines[-1]
    screen.type("/pre")
    screen.press("escape")
    assert "│ /pre " in screen.text and "/prefill" not in screen.text
    screen.say("set gre")
    assert "SAMPLER  greedy" in screen.text
    screen.type("/hel")  # what is picked is meant
    screen.press("enter")
    assert "every key" in screen.text or "send" in screen.text
    screen.press("escape", "up")
    assert "│ /help" in screen.text


def test_enter_means_what_is_written_and_not_a_list_of_fewer_letters(screen: Screen) -> None:
    screen.type("/heat e")
    screen.burst(*"ntropy please", "enter")  # the list has not heard of it yet
    assert "heat is one of" in screen.lines[-1]


COMPLETED = {
    "/pre": ("/prefill", "/preset"), "/preset w": ("wild",), "/order ": ("mlx-lm", "llama.cpp", "hugging-face"),
    "/set te": ("temp",), "/heat ": ("surprisal", "rank", "off"), "/model ": ("  scripted",),
    "/adapter ": ("calm 0.5", "calm off"), "/allow ": ("  glow",), "/strategy be": ("beam",), "/copy ": ("tokens",),
    "/export ": ("markdown", "html", "jsonl"), "/theme ": ("dark", "light"), "/unmask st": ("steps",),
}  # fmt: skip


@pytest.mark.slow
def test_a_command_is_completed_by_what_there_is(screen: Screen) -> None:
    screen.say("/adapter calm", "/ban glow")
    for typed, words in COMPLETED.items():
        screen.type(typed)
        box = next(y for y, line in enumerate(screen.lines) if line.startswith("╭"))
        listed = "\n".join(screen.lines[:box])
        assert all(each in listed for each in words), typed
        screen.press("escape", "ctrl+u")


@pytest.mark.slow(2)
def test_the_palette_offers_what_applies_and_does_it(screen: Screen) -> None:
    screen.press("ctrl+p")
    screen.type("Re-sample")
    assert "branch: Re-sample from here  nothing was answered yet" in screen.text
    screen.press("enter")  # it says again why not
    assert "nothing was answered yet" in screen.lines[-1] and not screen.kept
    screen.say(ASK, "/ban sky", "/redo")
    for entry, seen in (
        ("branch: Previous sibling", "branch 1/2"),
        ("branch: Re-sample from here", "branch"), ("sample: Allow ·sky", "SAMPLER"), ("/seed n", "│ /seed "),
    ):  # fmt: skip
        screen.press("ctrl+p")
        screen.type(entry)
        assert entry in screen.text
        screen.press("enter")
        assert seen in screen.text, entry
    screen.press("ctrl+p")
    screen.type("sample: Allow")
    assert "Allow sky" in screen.text and "Allow ·sky" not in screen.text


WANTED = {
    "vote": "strategy: vote", "several answers": "answer: Several", "beam": "strategy: beam",
    "majority": "strategy: vote", "compare models": "view: Compare", "undo": "sample: Undo", "train": "view: Tune",
    "why": "token: Why", "why did it say that": "token: Why", "make it shorter": "/max", "explain": "token: Why",
    "temperature": "/set", "most likely text": "strategy: exact", "benchmark": "view: Runs", "seed": "answer: Seed",
    "rsmp": "branch: Re-sample", "pattern": "answer: Follow", "yes or no": "answer: One of",
    "diffusion": "model: Switch", "regex": "answer: Follow", "regular expression": "answer: Follow",
    "masked diffusion": "/unmask", "course": "view: Learn", "chi-square": "view: Proofs",
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("half", everyday([0, 1], 2))
def test_a_command_is_found_by_what_a_person_wants(screen: Screen, half: int) -> None:
    screen.press("ctrl+p")
    for query, first in [*WANTED.items()][half::2]:
        screen.burst("ctrl+u", *query)
        y, x = next((y, line.index(query)) for y, line in enumerate(screen.lines) if query in line)
        listed = [re.search(r"(?<!\S)(?:\w+: |/).*", line[x - 3 :]) for line in screen.lines[y + 1 :]]
        assert next(row for row in listed if row is not None).group().startswith(first), query


def test_every_intent_is_of_something_that_there_is(screen: Screen) -> None:
    names = {
        "strategy: ": {*STRATEGIES, "plain"},
        "view: ": {name.capitalize() for name in VIEWS},
        "/": {*slash.table()},
    }
    for start, there in names.items():
        assert {name.removeprefix(start) for name in INTENTS if name.startswith(start)} <= there
    keys = screen.app.key_table()
    assert {each.binding for each in INTENTS.values()} <= {"", *keys}


def test_a_strategy_is_chosen_in_the_palette_and_its_key_is_told(screen: Screen) -> None:
    screen.say(ASK)
    screen.press("ctrl+p")
    screen.type("majority")
    screen.press("enter")
    assert "votes" in screen.lines[-1] or "vote" in screen.lines[-1]
    screen.press("ctrl+p")
    screen.type("token: Why")
    row = next(line for line in screen.lines if "Why this word" in line)
    assert re.search(r" w\b", row.split("Why this word")[1])


def test_commands_of_a_diffusion_model(tmp_path: Path) -> None:
    engine = ScriptedDiffusion()
    with Screen(tmp_path, engine) as screen:
        for typed, line in (
            ("/strategy beam 3", "diffusion"), ("/max 5", "5"), ("/unmask x", "/unmask wants"),
            ("/unmask steps 4 by entropy", "entropy"), ("/set mirostat_tau 5", "it stays off"),
            ("/set dry_multiplier 0.8", "DRY needs tokens in the order of the text"),
        ):  # fmt: skip
            assert line in screen.say(typed), typed
        screen.say(ASK)
        assert (engine.hows[-1].steps, engine.hows[-1].by) == (4, "entropy")
        assert len(screen.kept[0].messages()[-1].steps) == 5


def test_a_conversation_without_an_answer_has_nothing_to_draw_again(screen: Screen) -> None:
    for typed, line in (
        ("/redo", "there is no answer to draw again"), ("/continue", "there is no answer to go on with"),
        ("/step", "step mode needs a message to answer, and a model"),
    ):  # fmt: skip
        assert line in screen.say(typed)
    assert not screen.kept
