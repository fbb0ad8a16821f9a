"""The lines at the screen's edges drawn alone, at widths where something goes from them."""

from dataclasses import replace

from app.looks import Doubt
from app.tui.chat.candidates import BANNED, Candidate, CandidateTable
from app.tui.widgets.bars import Hints, InspectorLine, JumpToLatest, TopBar
from tests.tui.widgets.drawing import Pictures, click

FACTS = ("seed 7", "1,024 of 8,192", "56 tok/s", "3.2 GB")
MODEL = "SmolLM2-135M-Instruct-4bit-of-somebody"


def bar(current: str = "chat", *, model: str = MODEL, facts: tuple[str, ...] = FACTS, kept: int = 1) -> TopBar:
    found = TopBar(current)
    found.show(model, facts, kept=kept)
    found.tint("surprisal")
    return found


def test_what_gives_way_in_the_top_line_as_it_gets_narrower(pictures: Pictures) -> None:
    for width in (170, 130, 112, 90, 66, 50, 39, 16):
        pictures.draw(bar(), width, 1)
    pictures.sweep(bar(), range(8, 172), 1)
    pictures.compare("top-bar-narrower")


def test_names_of_views_become_numbers_at_the_very_cell_where_they_have_no_room(pictures: Pictures) -> None:
    it = bar(facts=(), model="m")
    for width in range(52, 120):
        pictures.draw(it, width, 1)
    drawn = [part.splitlines()[1] for part in pictures.parts]
    whole = [52 + at for at, row in enumerate(drawn) if "2 compare" in row]
    named = [52 + at for at, row in enumerate(drawn) if "likely" in row]
    legend = 24  # "   2+  4+  6+  8+  bits "
    views = len(" 1 chat  2 compare  3 text  4 tune  5 inside  6 runs ")
    assert whole == list(range(8 + views + 3 + 8 + legend, 120))
    short = len(" 1 chat  2  3  4  5  6 ")
    assert named == list(range(8 + short + 3 + 8 + legend, 120))


def test_other_views_models_and_facts(pictures: Pictures) -> None:
    for current in ("compare", "runs", "ladders", "watch", "unknown"):
        for width in (110, 60, 30):
            pictures.draw(bar(current, facts=FACTS[:1]), width, 1, current)
    for model, facts, kept in (("m", (), 0), ("空" * 20, FACTS, 0), (MODEL, FACTS, 4), (MODEL, FACTS[:1], 0)):
        for width in (140, 90, 66, 44):
            pictures.draw(bar(model=model, facts=facts, kept=kept), width, 1, f"{len(facts)} facts, {kept} kept")
    pictures.compare("top-bar-others")


def test_every_way_of_looking_has_its_legend(pictures: Pictures) -> None:
    it = bar(facts=())
    for heat, least in (("off", 2.0), ("entropy", 2.0), ("rank", 2.0), ("surprisal", 5.0), ("surprisal", 0.5)):
        it.tint(heat, least)
        for width in (140, 100):
            pictures.draw(it, width, 1, f"{heat} from {least}")
    pictures.compare("top-bar-heat")


def test_the_top_line_is_drawn_anew_where_something_changes(pictures: Pictures) -> None:
    it = TopBar("chat")
    assert it.heat == ("off", 2.0) and it.kept == 0
    changes: list[tuple[str, tuple[str, ...], int]] = [
        ("", (), 0),
        ("m", (), 0),
        ("m", ("f",), 0),
        ("m", ("f",), 1),
        ("m", ("f",), 1),
    ]
    for (model, facts, kept), redraws in zip(changes, (0, 1, 1, 1, 0), strict=True):
        it.show(model, facts, kept=kept)
        assert pictures.redraws() == redraws
    it.show("m", ("f",))
    assert it.kept == 0 and pictures.redraws() == 1
    for heat, least, redraws in (("off", 2.0, 0), ("rank", 2.0, 1), ("rank", 3.0, 1), ("rank", 3.0, 0)):
        it.tint(heat, least)
        assert pictures.redraws() == redraws
    it.tint("rank")
    assert it.heat == ("rank", 2.0)


def test_a_click_asks_for_the_view_under_it(pictures: Pictures) -> None:
    it = bar("chat", facts=(), model="m")
    it.tint("off")

    def asked(x: int) -> str:
        it.on_click(click(x, 0))
        said = [each.name for each in pictures.said if isinstance(each, TopBar.ViewAsked)]
        assert len(said) == len(pictures.said) < 2
        pictures.said.clear()
        return said[0] if said else ""

    pictures.draw(it, 100, 1)
    assert [asked(x) for x in (7, 8, 15, 16, 26, 27, 34, 35, 60, 61, 90)] == [
        *("", "chat", "chat", "compare", "compare", "text", "text", "tune", "runs", "", ""),
    ]
    pictures.draw(it, 30, 1)
    assert [asked(x) for x in (7, 8, 15, 16, 20)] == ["", "chat", "chat", "", ""]
    pictures.draw(it, 42, 1)
    assert [asked(x) for x in (7, 8, 15, 16, 18, 19, 28, 30, 31)] == [
        *("", "chat", "chat", "compare", "compare", "text", "runs", "runs", ""),
    ]
    pictures.draw(it, 41, 1)  # without the program's name
    assert [asked(x) for x in (0, 7, 8, 10, 11, 13, 14, 20, 22, 23)] == [
        *("chat", "chat", "compare", "compare", "text", "text", "tune", "runs", "runs", ""),
    ]


ROWS = (
    Candidate(3, "·blue", 0.404, 0.506),
    Candidate(4, "·red", 0.2, 0.25, chosen=True),
    Candidate(5, "·amber", 0.1, 0.0, removed_by="top-p"),
    Candidate(6, "·pale", 0.08, 0.0, removed_by=BANNED),
    Candidate(7, "·an·endless·name", 0.05, 0.056),
    Candidate(8, "空", 0.05, None),
)
TABLE = CandidateTable("TOKEN 7", "·red", "2.3 bits  rank 2", ROWS, 100, (1, 1), (1.0, 1.0), "", True, True)
BITS = (None, 0.0, 0.9, 1.0, 4.4, 7.0, 7.9, 8.0, 12.5, 3.0)


def line(view: CandidateTable | None) -> InspectorLine:
    found = InspectorLine()
    found.show(view, BITS)
    return found


def test_a_token_in_one_line(pictures: Pictures) -> None:
    pictures.draw(line(None), 80, 1, "none")
    doubted = TABLE.doubted(Doubt(2.0, 0.26, ((3, 0.031), (4, 0.2)), 16, 1.0))
    for width in (120, 90, 80, 77, 76, 75, 70, 60, 50, 41, 40, 39, 30):
        pictures.draw(line(TABLE), width, 1)
        pictures.draw(line(doubted), width, 1, "doubted")
    pictures.draw(line(replace(TABLE, rows=ROWS[2:])), 80, 1, "none is drawn yet")
    pictures.draw(line(replace(TABLE, rows=())), 80, 1, "no rows")
    pictures.sweep(line(TABLE), range(25, 90), 1)
    pictures.compare("inspector-line")
    pictures.redraws()
    line(TABLE)
    assert pictures.redraws() == 1


KEYS = (("tab", "panel"), ("^g", "sampler"), ("^r", "again"), ("esc", "stop"))


def test_keys_are_shown_as_far_as_there_is_room(pictures: Pictures) -> None:
    it = Hints()
    it.show(KEYS)
    for width in (80, 60, 59, 58, 57, 49, 48, 47, 36, 24, 23, 13, 12, 11, 5):
        pictures.draw(it, width, 1)
    pictures.sweep(it, range(4, 60), 1)
    it.say("saved\nas 空色 \x1b[2J")
    for width in (40, 21, 20, 12):
        pictures.draw(it, width, 1, "news")
    it.say("it could not be saved", alarm=True)
    pictures.draw(it, 40, 1, "alarm")
    it.say("")
    pictures.draw(it, 40, 1, "keys again")
    pictures.compare("hints")
    pictures.redraws()
    for keys, redraws in ((KEYS, 0), (KEYS[:2], 1), (KEYS[:2], 0)):
        it.show(keys)
        assert pictures.redraws() == redraws
    for news, alarm, redraws in (("", False, 0), ("x", False, 1), ("x", False, 0), ("x", True, 1), ("", False, 1)):
        it.say(news, alarm)
        assert pictures.redraws() == redraws


def test_how_much_has_come_behind_the_reader(pictures: Pictures) -> None:
    it = JumpToLatest()
    pictures.draw(it, 40, 1)
    for behind in (0, 1, 1234):
        it.show(behind)
        width = it.styles.width
        assert width is not None
        pictures.draw(it, 40, 1, f"{behind} behind, {width.value:.0f} cells")
    pictures.compare("jump-to-latest")
    assert pictures.redraws() == 3
    it.on_click()
    assert [type(each) for each in pictures.said] == [JumpToLatest.Pressed]
