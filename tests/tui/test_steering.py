"""Bans and biases: set anywhere, listed, lifted, and said beside the answer."""

from app.tui.sampling import Sampling, words


def test_bans_and_biases_are_told_apart_and_lifted() -> None:
    sampling = Sampling().banned(7).biased(9, 2.5).banned(3)
    assert sampling.bans == (7, 3) and sampling.biases == ((9, 2.5),)
    assert words(sampling.recipe).endswith("2 banned · 1 biased")
    assert words(sampling.preset("greedy").recipe) == "greedy · 2 banned · 1 biased"
    assert sampling.banned(7).bans == (3,) and sampling.banned(9).bans == (7, 3, 9)
    assert sampling.lift(9).biases == () and sampling.lift(7).bans == (3,)
    assert Sampling.of(sampling.recipe).bias == sampling.bias
