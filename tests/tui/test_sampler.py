"""The sampler drawn without an app and compared, walked through by keys and dragged; what each change says."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from textual import events
from textual.geometry import Offset, Size

from app.tui import presets
from app.tui.chat import decoding
from app.tui.dialogs.overlays import Ask, Pick
from app.tui.sampling import Sampling
from app.tui.widgets.sampler import FOLD, STRATEGY, Sliders, _columns
from engine.decode.strategies import PLAIN, parse
from engine.presets import OFF, ORDERS, PARAMETERS
from tests.pictures import assert_picture
from tests.tui.drawn import asked, page, paper, posted, stand

SIZE = Size(80, 24)
BEAM, GUIDED = parse("beam 5"), parse("guidance 1.5")


def sampling(bias: dict[int, float] | None = None, **values: float) -> Sampling:
    return Sampling({**OFF, "temp": 0.8, **values}, bias=bias or {})


def sliders(
    given: Sampling | None = None, strategy: Any = PLAIN, size: tuple[int, int] = (40, 20), **how: Any
) -> Sliders:
    found = stand(Sliders, size=size, **how)
    found.names = lambda token: f"·word{token}"
    found.show(given if given is not None else sampling(), strategy)
    asked(found)
    return found


def desk(tmp_path: Path = Path("nowhere")) -> Any:
    """A host whose dialogs are kept, with what is to be called at their end."""
    said: list[str] = []
    shown: list[tuple[Any, Any]] = []
    engine = SimpleNamespace(models={}, current=None)
    return paper(
        home=tmp_path, engine=engine, said=said, shown=shown, say=lambda line, alarm=False: said.append(line),
        push_screen=lambda screen, then: shown.append((screen, then)),
    )  # fmt: skip


FULL = sampling({3: -100.0, 5: 1.5, 6: -0.25}, top_p=0.9, min_p=0.05, xtc_probability=0.5, dynatemp_range=0.5)
CASES: dict[str, tuple[Sampling, Any, dict[str, Any]]] = {
    "the default": (Sampling(), PLAIN, {}), "with the keys": (Sampling(), PLAIN, {"focus": True}),
    "temperature alone": (sampling(), PLAIN, {}), "much": (FULL, PLAIN, {"focus": True, "drawer": True}),
    "a beam": (FULL, BEAM, {"strategies": True}),
    "a beam, with the keys": (FULL, BEAM, {"strategies": True, "focus": True}),
    "guided": (sampling(top_k=40), GUIDED, {"strategies": True, "focus": True}),
    "plain, left": (sampling(), PLAIN, {"strategies": True}),
    "plain, to be chosen": (sampling(), PLAIN, {"strategies": True, "focus": True}),
    "greedy": (sampling(temp=0.0), PLAIN, {"focus": True}),
}  # fmt: skip


def test_sliders_are_as_they_were_looked_at() -> None:
    with desk():
        rows = []
        for name, (given, strategy, how) in CASES.items():
            for width in (46, 30) if how.get("strategies") or "much" in name else (46,):
                it = sliders(given, strategy, **how)
                rows += [f"== {name}, {width}", *page(it, width, 30)]
                assert it.get_content_height(SIZE, SIZE, width) == len(it.lines(width, 99))
        it = sliders(FULL, focus=True)
        it.unfolded = True
        for picked in ("temp", "top_p", "#3", "#6", FOLD, "dry_multiplier"):
            it.picked = picked
            assert it.chosen == picked
            rows += [f"== at {picked}", *page(it, 32, 9)]
        it = sliders(FULL, BEAM, strategies=True, focus=True)
        for picked in (STRATEGY, "=beams", "=penalty", "=early"):
            it.picked = picked
            rows += [f"== at {picked}, {it.chosen}", *page(it, 40, 5)]
        narrow = sliders(FULL, focus=True)
        rows += ["== narrow", *page(narrow, 14, 8), "== narrower", *page(narrow, 8, 4), "== low", *page(narrow, 40, 1)]
        shared = sliders(Sampling(order=ORDERS["llama.cpp"]))
        rows += [row for width in (46, 36, 35, 27, 26, 20) for row in page(shared, width, 1)]
        own = sliders(Sampling(order=tuple(reversed(ORDERS["mlx-lm"])), values=dict(FULL.values)))
        rows += page(own, 46, 1)
    assert_picture("tui/pictures/pages-sliders.txt", rows)


@pytest.mark.parametrize(
    ("width", "label", "size"),
    [(80, 15, 56), (46, 15, 22), (28, 15, 4), (27, 14, 4), (17, 4, 4), (16, 4, 4), (5, 4, 4)],
)
def test_a_label_gives_way_to_its_slider(width: int, label: int, size: int) -> None:
    assert _columns(width) == (label, size)


def test_rows_scroll_with_the_picked_one_where_they_have_no_room() -> None:
    with desk():
        it = sliders(FULL, focus=True)
        it.unfolded = True
        count = len(it.rows())
        tops = []
        for at in [*range(count), *reversed(range(count))]:
            it.picked = it.rows()[at]
            it.lines(40, 6)
            tops.append(it.top)
            assert it.top <= at < it.top + 5 and it.top <= count - 5
        down = [max(at - 4, 0) for at in range(count)]
        assert tops == down + [min(at, count - 5) for at in reversed(range(count))]
        it.picked, it.top = it.rows()[-1], 3
        it.lines(40, 99)
        assert it.top == 0
        left = sliders(FULL)
        left.picked, left.top = left.rows()[-1], 3
        left.lines(40, 6)
        assert left.top == 0


def test_the_row_that_keys_act_on_is_one_that_is_there() -> None:
    with desk():
        it = sliders(FULL, focus=True)
        it.picked = "top_n_sigma"
        assert "top_n_sigma" not in it.rows() and it.chosen == "temp" and it.parameter is PARAMETERS["temp"]
        it.picked = "#3"
        assert it.chosen == "#3" and it.parameter is None
        search = sliders(sampling(), BEAM, focus=True)
        search.picked = "temp"
        assert search.rows() == [FOLD] and search.chosen == FOLD


def test_keys_step_set_move_and_lift() -> None:
    with desk() as host:
        it = sliders(FULL, focus=True)
        it.picked = "temp"
        p = PARAMETERS["temp"]

        def changed() -> Sampling:
            (message,) = cast(list[Any], posted(it))
            assert message.sampling is it.sampling and asked(it)[0]
            return message.sampling

        it.action_step(1)
        assert changed().values["temp"] == pytest.approx(0.8 + p.step)
        it.action_step(-10)
        assert changed().values["temp"] == pytest.approx(0.8 - 9 * p.step)
        it.action_default()
        assert changed().values["temp"] == p.default
        it.action_default()
        assert not posted(it) and not asked(it)[0]  # it is there already
        it.action_move(1)
        order = changed().order
        it.action_move(-1)
        assert changed().order != order
        it.picked = "top_p"
        it.action_off()
        assert changed().values["top_p"] == PARAMETERS["top_p"].off
        it.picked = "temp"
        it.action_step(3)
        changed()
        it.action_off()
        assert changed().values["temp"] == (p.default if p.off is None else p.off)
        it.picked = "#3"
        for act in (lambda: it.action_step(1), it.action_default, lambda: it.action_move(1), it.action_type):
            act()
        assert not posted(it) and not host.shown
        it.action_off()
        assert 3 not in changed().bias
        it.picked = FOLD
        it.action_off()
        it.action_step(1)
        assert not posted(it)
        it.unfolded = True
        it.picked = "top_k"
        it.action_step(1)
        assert changed().values["top_k"] > 0 and it.picked == "top_k"


def test_walking_folding_and_entering() -> None:
    with desk() as host:
        it = sliders(FULL, BEAM, strategies=True, focus=True)
        rows = it.rows()
        it.picked = rows[0]
        it.action_pick(-1)
        assert it.picked == rows[0] and asked(it)[0]
        for row in rows[1:]:
            it.action_pick(1)
            assert it.picked == row
        it.action_pick(1)
        assert it.picked == rows[-1] == FOLD
        asked(it)
        it.action_enter()
        assert it.unfolded and [type(m).__name__ for m in posted(it)] == ["RowsChanged"] and asked(it)[0]
        it.action_enter()
        assert not it.unfolded and len(posted(it)) == 1
        it.picked = "=beams"
        it.action_enter()
        assert not posted(it) and not host.shown
        it.picked = STRATEGY
        it.action_enter()
        assert len(host.shown) == 1
        it.picked = "nothing"
        it.action_fold()
        assert it.picked == it.rows()[0] or it.picked == "temp"
        posted(it)
        it.on_focus()
        it.on_blur()
        assert [type(m).__name__ for m in posted(it)] == ["RowsChanged"] * 2


def test_a_strategy_is_stepped_typed_chosen_and_put_off() -> None:
    with desk() as host:
        it = sliders(FULL, BEAM, strategies=True, focus=True)

        def found() -> list[str]:
            return [str(message.strategy) for message in cast(list[Any], posted(it))]

        it.picked = "=beams"
        it.action_step(1)
        it.action_step(-10)
        assert found() == ["beam 6"] and len(host.said) == 1
        it.picked = "=penalty"
        value = cast(Any, BEAM).penalty
        it.action_step(1)
        assert found() == [str(parse(f"beam 5 {value + 0.1:g}"))]
        it.picked = "=early"
        it.action_step(1)
        assert not found()
        it.picked = STRATEGY
        known = [str(decoding.read(id)) for id, _ in decoding.offered(host.engine) if id]
        here = next(i for i, text in enumerate(known) if text.split()[0] == "beam")
        assert 1 < here < len(known) - 2
        for by, there in ((1, here + 1), (-1, here - 1), (99, len(known) - 1), (-99, 0)):
            it.action_step(by)
            assert found() == [known[there]]
        it.action_off()
        assert found() == [str(PLAIN)]
        it.picked = "=beams"
        it.action_off()
        assert found() == [str(PLAIN)]
        for picked, title, text, typed in (
            (STRATEGY, "how tokens are found: beam", "beam 5", "exact 9"), ("=beams", "beams of beam", "5", "7"),
        ):  # fmt: skip
            it.picked = picked
            it.action_type()
            (ask, then) = host.shown.pop()
            assert isinstance(ask, Ask) and title in str(vars(ask)) and text in vars(ask).values(), vars(ask)
            then(None)
            assert not found()
            then(typed)
            assert found() == ["exact 9" if picked == STRATEGY else "beam 7"]
        host.said.clear()
        then("many")
        assert not found() and len(host.said) == 1
        it.action_strategy()
        (pick, then) = host.shown.pop()
        assert isinstance(pick, Pick)
        then(None)
        then("")
        assert not found()
        then("strategy beam 3")
        assert found() == ["beam 3"]
        plain = sliders(FULL, focus=True)
        plain.action_strategy()
        assert not host.shown and "one by one" in host.said[-1]


def test_a_value_is_typed_within_its_range() -> None:
    with desk() as host:
        it = sliders(sampling(), focus=True)
        it.picked = "temp"
        it.action_type()
        ((ask, then),) = host.shown
        p = PARAMETERS["temp"]
        title = f"{p.label}, the slider from {p.low:g} to {p.high:g} · "
        assert title in str(vars(ask)) and "0.8" in vars(ask).values()
        then(None)
        assert not posted(it) and not host.said
        then("1.5")
        assert it.sampling.values["temp"] == 1.5 and len(posted(it)) == 1 and not host.said
        then("999")  # refused with the range, and nothing is changed
        assert it.sampling.values["temp"] == 1.5 and host.said == ["temperature must be in (0, 100], got 999.0"]
        assert it.type_value("temp", "") == f"{p.label} must be a number, got nothing"
        assert it.type_value("temp", "2.5") == "" and it.sampling.values["temp"] == 2.5  # beyond where the knob goes
        assert it.type_value("temp", "warm") == f"{p.label} must be a number, got warm"


def test_presets_are_chosen_from_a_list(tmp_path: Path) -> None:
    with desk(tmp_path) as host:
        it = sliders(sampling(), focus=True)
        it.action_presets()
        ((pick, then),) = host.shown
        assert isinstance(pick, Pick)
        then(None)
        assert not posted(it)
        choice = next(id for id, words in presets.choices(tmp_path) if "wild" in id or "wild" in words)
        then(choice)
        assert it.sampling.preset_name == "wild" and len(posted(it)) == 1


def test_what_is_shown_is_laid_out_anew_only_where_it_takes_other_rows() -> None:
    with desk():
        it = sliders(sampling(), focus=True)
        for given, said in (
            (sampling(), (False, False)), (sampling(temp=0.5), (True, False)), (sampling(temp=0.0), (True, False)),
            (sampling(top_k=4), (True, True)), (sampling(top_k=5), (True, False)), (sampling({1: 0.5}), (True, False)),
            (sampling({1: 0.5, 2: 0.5}), (True, True)), (sampling(), (True, True)),
        ):  # fmt: skip
            it.show(given)
            assert (asked(it), it.sampling) == (said, given), given
        it.show(sampling(), BEAM)
        assert asked(it) == (True, True) and it.strategy == BEAM
        it.show(sampling(), BEAM)
        assert asked(it) == (False, False)


# -- the mouse -------------------------------------------------------------------------------------------------------


class Mouse:
    """Presses, drags and lets go at cells of sliders."""

    def __init__(self, it: Sliders) -> None:
        self.it, self.captured = it, 0
        cast(Any, it).capture_mouse = lambda: setattr(self, "captured", self.captured + 1)
        cast(Any, it).release_mouse = lambda: setattr(self, "captured", self.captured - 1)

    def event(self, x: int, y: int) -> Any:
        return cast(events.MouseDown, SimpleNamespace(get_content_offset_capture=lambda widget: Offset(x, y)))

    def press(self, x: int, y: int) -> None:
        self.it.on_mouse_down(self.event(x, y))

    def drag(self, x: int, y: int) -> None:
        self.it.on_mouse_move(self.event(x, y))

    def leave(self) -> None:
        self.it.on_mouse_up(self.event(0, 0))


def test_a_slider_follows_the_mouse_from_end_to_end() -> None:
    with desk():
        it = sliders(sampling(), focus=True, size=(46, 20))
        it.picked = FOLD
        mouse, p = Mouse(it), PARAMETERS["temp"]
        label, size = _columns(46)
        left, right = label + 1, label + size
        mouse.press(left, 1)
        assert it.picked == "temp" and it.sampling.values["temp"] == p.low and mouse.captured == 1 and asked(it)[0]
        for x, value in ((right, p.high), (right + 9, p.high), (left - 9, p.low), (left, p.low)):
            mouse.drag(x, 9)
            assert it.sampling.values["temp"] == pytest.approx(value), x
        mouse.drag(left + 7, 1)
        share = 7 / (size - 1)
        assert it.sampling.values["temp"] == pytest.approx(p.low + round(share * (p.high - p.low) / p.step) * p.step)
        mouse.leave()
        mouse.drag(right, 1)
        assert it.sampling.values["temp"] != p.high and mouse.captured == 0
        for x, y in ((left - 1, 1), (right + 1, 1), (left + 3, 0), (left + 3, 99), (left + 3, -1)):
            before = it.sampling
            mouse.press(x, y)
            assert it.sampling == before, (x, y)
        it.unfolded, presence = True, PARAMETERS["presence_penalty"]
        y = it.rows().index("presence_penalty") + 1
        mouse.press(left, y)
        for x, value in ((left, presence.low), (right, presence.high), (left + 10, -0.1)):
            mouse.drag(x, y)
            assert it.sampling.values["presence_penalty"] == pytest.approx(value, abs=0.051)
        mouse.leave()
        it.unfolded = False
        posted(it)
        it.action_fold()
        it.picked = "temp"
        at = it.rows().index("top_p") + 1
        mouse.press(right, at)
        assert it.picked == "top_p"


def test_a_press_unfolds_lifts_and_chooses() -> None:
    with desk() as host:
        it = sliders(FULL, BEAM, strategies=True, focus=True, size=(46, 20))
        mouse, rows = Mouse(it), it.rows()
        mouse.press(3, rows.index(FOLD) + 1)
        assert it.unfolded and it.picked == FOLD
        mouse.press(3, rows.index(STRATEGY) + 1)
        assert len(host.shown) == 1
        posted(it)
        label, size = _columns(46)
        y = rows.index("=beams") + 1
        mouse.press(label + 1, y)
        mouse.press(label + size, y)
        mouse.drag(label + 1 + 5, y)
        assert [str(m.strategy) for m in cast(list[Any], posted(it))] == [
            "beam 1", "beam 20", f"beam {round(1 + 19 * 5 / (size - 1))}",
        ]  # fmt: skip
        at_five = next(x for x in range(size) if round(1 + 19 * x / (size - 1)) == 5)
        mouse.press(label + 1 + at_five, y)
        assert not posted(it)  # it is that already
        y = rows.index("=penalty") + 1
        mouse.press(label + size, y)
        assert [m.strategy.penalty for m in cast(list[Any], posted(it))] == [2.0]
        mouse.press(label + 5, rows.index("=early") + 1)
        assert not posted(it)
        it.unfolded = False
        token = it.rows().index("#3") + 1
        end = it._lift_at("#3")
        mouse.press(end - 1, token)
        assert 3 in it.sampling.bias and it.picked == "#3"
        mouse.press(end, token)
        assert 3 not in it.sampling.bias
        scrolled = sliders(FULL, focus=True, size=(46, 5))
        scrolled.unfolded, scrolled.top = True, 4
        Mouse(scrolled).press(0, 2)
        assert scrolled.picked == scrolled.rows()[5]
