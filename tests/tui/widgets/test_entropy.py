"""The row of entropies drawn alone: a column a token or several, the one under the cursor lit."""

from app.looks import Doubt
from app.tui.widgets.entropy import EntropyRow
from tests.tui.widgets.drawing import Pictures, beside, click

BITS = [0.0, 0.4, 1.0, 2.0, 3.5, None, 8.0, 9.0, 4.0, 0.5, 6.0]
DOUBT = Doubt(2.125, 0.25, (), 16, 1.0)


def entropy(bits: list[float | None], at: int | None, doubt: Doubt | None = None) -> EntropyRow:
    found = EntropyRow()
    found.show(bits, at, doubt)
    return found


def test_columns_of_all_tokens_at_every_height(pictures: Pictures) -> None:
    for height in (1, 2, 3, 5):
        pictures.draw(entropy(BITS, 6), 30, height)
    for at in (None, 0, 5, 10, 11, -1):
        pictures.draw(entropy(BITS, at), 30, 3, f"at {at}")
    for width in (40, 11, 10, 6, 5, 4, 1, 0):
        pictures.draw(entropy(BITS, 6), width, 3)
    pictures.draw(EntropyRow(), 30, 3, "no tokens")
    pictures.draw(entropy([], 0), 30, 3, "no tokens")
    pictures.compare("entropy")


def test_a_list_that_grows_is_read_on_and_another_from_the_beginning(pictures: Pictures) -> None:
    bits = list(BITS)
    it = entropy(bits, 2)
    pictures.draw(it, 6, 3)
    assert (it._each, it._columns) == (2, [0.4, 2.0, 3.5, 9.0, 4.0, 6.0])
    bits[0] = 5.0  # is not read again
    it.show(bits, 2)
    pictures.draw(it, 6, 3)
    assert it._columns == [0.4, 2.0, 3.5, 9.0, 4.0, 6.0]
    bits.append(7.0)
    it.show(bits, 2)
    pictures.draw(it, 6, 3)
    assert (it._each, it._columns) == (2, [0.4, 2.0, 3.5, 9.0, 4.0, 7.0])
    bits.append(1.0)
    it.show(bits, 2)
    pictures.draw(it, 6, 3)
    assert (it._each, it._columns) == (3, [5.0, 3.5, 9.0, 7.0, 1.0])
    del bits[3:]
    it.show(bits, 2)
    pictures.draw(it, 6, 3)
    assert (it._each, it._columns) == (1, [5.0, 0.4, 1.0])
    it.show([2.0, 3.0, 4.0, 5.0], 2)
    pictures.draw(it, 6, 3)
    assert it._columns == [2.0, 3.0, 4.0, 5.0] and pictures.redraws() == 6


def test_an_entropy_in_two_parts(pictures: Pictures) -> None:
    whole = len("ENTROPY  2.38 = 2.12 aleatoric + 0.25 epistemic bits")
    for width in (whole + 1, whole, whole - 1, 20):
        for height in (5, 3, 2, 1):
            pictures.draw(entropy(BITS, 6, DOUBT), width, height)
    pictures.compare("entropy-doubt")


def test_a_click_goes_to_the_highest_token_of_a_column(pictures: Pictures) -> None:
    it = entropy(BITS, 2)
    pictures.draw(it, 5, 3)  # three tokens a column
    for x, token in ((0, 2), (1, 4), (2, 7), (3, 10)):
        it.on_click(click(x, 1))
        assert isinstance(said := pictures.said.pop(), EntropyRow.Pointed) and said.token == token
    it.on_click(click(4, 1))
    it.on_click(beside())
    assert not pictures.said
    pictures.draw(it, 30, 3)
    for x in (0, 5, 10):
        it.on_click(click(x, 1))
        assert isinstance(said := pictures.said.pop(), EntropyRow.Pointed) and said.token == x
