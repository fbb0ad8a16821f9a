"""How far a training has come, and rows of words, drawn alone at widths where something goes."""

from dataclasses import replace

from app.tui.training.status import RunStatus
from app.tui.widgets.caption import Caption
from app.tui.widgets.gauge import Gauge
from tests.tui.widgets.drawing import Pictures

AT = RunStatus("training", 0.25, "3 min left", ("loss 1.23", "12 tok/s", "2.1 GB"))


def gauge(standing: RunStatus) -> Gauge:
    found = Gauge()
    found.show(standing)
    return found


def test_the_bar_goes_first_then_what_is_left_then_facts(pictures: Pictures) -> None:
    for width in (60, 31, 12):
        pictures.draw(gauge(AT), width, 2)
    pictures.sweep(gauge(AT), range(4, 45), 2)
    for share in (None, -1.0, 0.0, 0.02, 0.5, 0.99, 1.0, 2.0):
        pictures.draw(gauge(replace(AT, share=share)), 50, 2, f"share {share}")
    pictures.draw(gauge(AT), 40, 2, "used", focus=True)
    pictures.draw(gauge(replace(AT, alarm=True, tail="")), 40, 2, "alarm", focus=True)
    pictures.draw(gauge(replace(AT, words="空色\x1b " * 9, facts=())), 40, 2, "words")
    pictures.draw(Gauge(), 40, 2, "nothing")
    pictures.compare("gauge")


def test_it_is_drawn_anew_where_it_stands_elsewhere(pictures: Pictures) -> None:
    it = Gauge()
    for standing, redraws in ((RunStatus(), 0), (AT, 1), (replace(AT), 0), (replace(AT, share=0.5), 1)):
        it.show(standing)
        assert pictures.redraws() == redraws


def test_rows_of_words_are_cut_where_the_screen_ends(pictures: Pictures) -> None:
    it = Caption()
    pictures.draw(it, 20, 2, "nothing")
    rows = ([("a sentence ", "faint"), ("of", "accent"), ("words", "alarm")], [("空色\t\x07", "text"), ("x", "rule")])
    it.show(*rows)
    pictures.draw(it, 30, 2)
    pictures.sweep(it, range(20), 2)
    pictures.compare("caption")
    pictures.redraws()
    it.show(*rows)
    assert not pictures.redraws()
    it.show(rows[0])
    assert pictures.redraws() == 1
