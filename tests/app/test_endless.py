"""Answers that never end: a limit where none is given, and a loop that is called one."""

from app.cli.sampling import MAX_TOKENS, read_recipe
from app.plain import endless
from engine.presets import PARAMETERS

UNSET = dict.fromkeys(PARAMETERS) | {"preset": None, "bias": (), "seed": 1, "stop": (), "order": "mlx-lm"}


def test_a_limit_where_none_is_given() -> None:
    """The fault: an answer of a small model that loops went on to the end of the context."""
    assert read_recipe(UNSET | {"max_tokens": None})[1].max_tokens == MAX_TOKENS
    assert read_recipe(UNSET | {"max_tokens": 9})[1].max_tokens == 9


def test_a_loop_is_recognised_by_its_period_and_text_is_not() -> None:
    start = [5, 6, 7, 8, 9]
    assert endless([*start, *[3] * 40]) == 1
    assert endless([*start, *[1, 2, 3] * 12]) == 3
    assert endless([*start, *range(100, 160)] + list(range(100, 160)) * 4) == 60
    assert endless([*start, *[1, 2, 3] * 12, 4]) == 0  # it got out
    assert endless([1, 2, 3] * 5) == 0  # a refrain
    assert endless([*range(200)]) == 0 and endless([]) == 0
