"""Text forms of the strategies: every kind with its settings, what is said of it, and what it refuses."""

from typing import Any

import pytest

from likely.engine.base.errors import ParameterError
from likely.engine.decode.drafts.combine import Contrast, Guidance, Layers
from likely.engine.decode.drafts.prompt_lookup import Drafting, NGram
from likely.engine.decode.loop.strategy import Strategy
from likely.engine.decode.sampled.budget import Budget
from likely.engine.decode.sampled.entropy_branching import EntropyBranching
from likely.engine.decode.sampled.sample import Sample
from likely.engine.decode.sampled.several import Vote
from likely.engine.decode.searches.beam import GNMT, Beam, DiverseBeam
from likely.engine.decode.searches.exact import ExactMode
from likely.engine.decode.searches.stochastic_beam import StochasticBeam
from likely.engine.decode.strategy_table import parse, with_setting

# text form -> strategy, how it is written again, its words, branches held for 2 answers
KNOWN: list[tuple[str, Strategy, str, str, int]] = [
    ("", Sample(), "sample", "", 2), (" plain ", Sample(), "sample", "", 2), ("sample", Sample(), "sample", "", 2),
    ("ngram", NGram(), "ngram", "n-gram guesses", 2), ("ngram 4", NGram(4), "ngram 4", "n-gram guesses of 4", 2),
    ("draft small", Drafting("small"), "draft small", "drafts of small", 2),
    ("draft a  b", Drafting("a  b"), "draft a  b", "drafts of a  b", 2),
    ("beam", Beam(), "beam", "beam search of 4", 4), ("beam 3", Beam(3), "beam 3", "beam search of 3", 3),
    ("beam 4 1.0", Beam(4), "beam", "beam search of 4", 4),
    ("beam 4 1.0 never", Beam(4, early="never"), "beam 4 1.0 never", "beam search of 4", 4),
    ("gnmt 2 0.6", GNMT(2, 0.6), "gnmt 2 0.6", "beam search, GNMT's penalty of 2", 2),
    ("diverse 6 3", DiverseBeam(6, apart=3), "diverse 6 3", "diverse beams of 6", 6),
    ("diverse 4 2 0.25", DiverseBeam(diversity=0.25), "diverse 4 2 0.25", "diverse beams of 4", 4),
    ("stochastic 5", StochasticBeam(5), "stochastic 5", "stochastic beams of 5", 5),
    ("exact", ExactMode(), "exact", "the mode in 1000 passes", 2),
    ("exact 9", ExactMode(9), "exact 9", "the mode in 9 passes", 2), ("vote 3", Vote(3), "vote 3", "a vote of 3", 3),
    ("vote 16 line", Vote(rule="line"), "vote 16 line", "a vote of 16", 16),
    ("vote 2 = (a b)", Vote(2, "= (a b)"), "vote 2 = (a b)", "a vote of 2", 2),
    ("entropy 4 1.5", EntropyBranching(4, bits=1.5), "entropy 4 1.5", "up to 4 branches at 1.5 bits", 4),
    ("entropy 4 2 line", EntropyBranching(4, "line", 2.0), "entropy 4 2.0 line", "up to 4 branches at 2 bits", 4),
    ("budget 64", Budget(64), "budget 64", "a thought of 64 tokens", 2),
    ("budget 64 2", Budget(64, 2), "budget 64 2", "a thought of 64 tokens, 2 waits", 2),
    ("contrast small", Contrast("small"), "contrast small", "contrast with a weaker model", 4),
    ("contrast small 1 0.2 > beam 3", Contrast("small", 1.0, 0.2, inner=Beam(3)), "contrast small 1.0 0.2 > beam 3",
     "contrast with a weaker model · beam search of 3", 6),
    ("dola", Layers(), "dola", "contrast with lower layers", 3),
    ("dola 4 > beam", Layers(4, inner=Beam()), "dola 4 > beam", "contrast with lower layers · beam search of 4", 5),
    ("guidance 2 bad", Guidance(2.0, "bad"), "guidance 2.0 bad", "guidance", 4),
]  # fmt: skip


def test_a_text_form_says_all_of_a_strategy() -> None:
    for text, strategy, again, words, width in KNOWN:
        found = parse(text)
        assert found == strategy and type(found) is type(strategy), text
        assert (str(found), found.words, found.width(2)) == (again, words, width), text
        assert parse(str(found)) == strategy


REFUSED = [
    ("beams", "'beams' is no way of drawing: one of sample"), ("sample 1", "expected sample"),
    ("beam 4 1 true 2 9", "answers of 'beam .*, got '2 9'"), ("draft", "expected draft MODEL"),
    ("sample 1 2", "expected sample"),
    ("beam x", "beams of 'beam .*' must be a number, got 'x'"), ("beam 0", r"number of beams must be .* \[1, 256\]"),
    ("beam 257", "number of beams"), ("beam 4 nan", "length penalty must be a finite number, got nan"),
    ("beam 4 1 maybe", "early stopping must be one of false, true, never, got maybe"),
    ("beam 4 1 true 5", r"number of answers of 4 beams must be a whole number in \[1, 4\]"),
    ("diverse 6 4", "6 beams cannot be parted into 4 groups"), ("diverse 4 5", "number of groups"),
    ("diverse 4 2 -1", "the diversity"), ("ngram 0", r"in \[1, 15\], got 0"), ("ngram 16", "got 16"),
    ("exact 0", r"in \[1, 1000000\]"), ("vote 0", r"in \[1, 256\]"), ("vote 2 nubmer", "no rule of extraction"),
    ("entropy 2 65", r"the entropy must be in \[0, 64\]"), ("entropy 2 -1", "the entropy"),
    ("budget 1000001", "budget of a thought"), ("budget 5 101", "number of waits"),
    ("contrast a 0", r"strength of the contrast must be in \(0, 100\]"), ("contrast a 1 0", r"\(0, 1\], got 0"),
    ("contrast a 1 1.1", "the least share"), ("contrast a 101", "strength"), ("dola -1", r"in \[0, 1000\]"),
    ("dola 1 0", "the least share"), ("guidance -1", r"in \[0, 100\]"), ("guidance 101", "scale"),
    ("beam > beam", "beam combines nothing: contrast or dola or guidance does"),
    ("dola > ngram", "ngram asks the model itself, and cannot go over dola"),
    ("dola > guidance", "guidance asks the model itself"), ("dola > draft a", "draft a asks the model itself"),
]  # fmt: skip


def test_what_is_no_form_is_said() -> None:
    for text, line in REFUSED:
        with pytest.raises(ParameterError, match=line):
            parse(text)


def test_the_best_are_of_who_orders_them() -> None:
    beam: Any = Beam(4).best(2)
    assert beam == Beam(4, answers=2) and beam.most == 2 and Beam(4).most == 4 and StochasticBeam(3).most == 3
    assert Layers(inner=Beam(4)).best(3) == Layers(inner=Beam(4, answers=3)) and ExactMode().best(1) == ExactMode()
    for strategy in (Sample(), NGram(), Vote()):
        with pytest.raises(ParameterError, match="does not order its answers, so there are no 2 best"):
            strategy.best(2)
    with pytest.raises(ParameterError):
        ExactMode().best(2)


def test_the_ends_of_what_is_allowed_are_allowed() -> None:
    for text in (
        "beam 256", "ngram 15", "ngram 1", "exact 1000000", "vote 256", "vote 1", "entropy 2 64", "entropy 2 0",
        "budget 1 100", "contrast a 100 1", "dola 1000 1", "guidance 0", "guidance 100", "diverse 4 4 0", "diverse 4 1",
        "beam 1 1 true 1", "beam 4 -1",
    ):  # fmt: skip
        assert parse(text).width(1) >= 1, text
    assert with_setting(Beam(3), "penalty", " 0.5 ") == Beam(3, 0.5)
    with pytest.raises(ParameterError, match="penalty of 'beam"):
        with_setting(Beam(), "penalty", "x")


def test_several_answers_are_refused_by_who_gives_one() -> None:
    refused: list[tuple[Strategy, str]] = [
        (Beam(), "ask for the 2 best of its beams"), (ExactMode(), "ask a beam search for the 2 best"),
        (Vote(), "several answers by itself: say how many as vote"), (NGram(), "draw one"),
        (Drafting("a", loaded=1), "draw one"), (Budget(), "it 2 times"), (Layers(inner=Beam()), "best of its beams"),
        (Contrast("a", loaded=1, inner=Beam()), "best of its beams"),
    ]  # fmt: skip
    for strategy, line in refused:
        strategy.check(1)
        with pytest.raises(ParameterError, match=line):
            strategy.check(2)
