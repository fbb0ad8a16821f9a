"""Frozen dataclasses beside the library's: the same class text, made by both, does the same."""

import copy
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, asdict, dataclass, field, fields, is_dataclass, replace
from functools import cached_property
from math import nan
from typing import Any, ClassVar

import pytest

from likely.metal.frozen import frozen


def point(decorator: Callable[[type], type]) -> Any:
    class Point:
        KIND: ClassVar[str] = "point"
        x: float
        names: list[str] = field(default_factory=list)
        y: float = field(default=2.0, compare=False)
        note: str = field(default="", repr=False, hash=False)
        total: float = field(init=False)
        seen: dict[str, int] = field(init=False, default_factory=dict, hash=False)
        last: int = field(default=0, kw_only=True)

        def __post_init__(self) -> None:
            object.__setattr__(self, "total", self.x + self.y)

    return decorator(Point)


def one(decorator: Callable[[type], type]) -> Any:
    class One:
        """A text."""

        value: object

    return decorator(One)


def none(decorator: Callable[[type], type]) -> Any:
    class Nothing:
        pass

    return decorator(Nothing)


def own(decorator: Callable[[type], type]) -> Any:
    class Own:
        value: int = 1

        def __repr__(self) -> str:
            return "own"

        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 7

    return decorator(Own)


SLOTS = dataclass(frozen=True, slots=True)
CALLS: list[Callable[[Any], object]] = [
    lambda k: point(k)(1.0),
    lambda k: point(k)(1.0, ["a"], 3, "b", last=4),
    lambda k: point(k)(names=["a"], x=1),
    lambda k: point(k)(),
    lambda k: point(k)(1, other=2),
    lambda k: point(k)(1, [], 2, "", 5),
    lambda k: [f.name for f in fields(point(k))],
    lambda k: asdict(point(k)(1.0)),
    lambda k: replace(point(k)(1.0), x=5, last=3),
    lambda k: replace(point(k)(1.0), total=5),
    lambda k: copy.deepcopy(point(k)(1.0)),
    lambda k: is_dataclass(point(k)),
    lambda k: point(k).__match_args__,
    lambda k: (lambda p: (p(1.0, y=3) == p(1.0, y=4), p(1.0) == p(2.0), p(1.0) == 1.0, p(1.0) != p(1.0)))(point(k)),
    lambda k: (lambda p: hash(p(1.0, (), 3)) == hash(p(1.0, (), 4)))(point(k)),
    lambda k: hash(point(k)(1.0)),
    lambda k: setattr(point(k)(1.0), "x", 2),
    lambda k: delattr(point(k)(1.0), "x"),
    lambda k: point(k)(1.0).seen is point(k)(1.0).seen,
    lambda k: point(k).KIND,
    lambda k: one(k)("v"),
    lambda k: hash(one(k)("v")),
    lambda k: (lambda o: o(nan) == o(nan))(one(k)),
    lambda k: one(k).__doc__,
    lambda k: one(k)(),
    lambda k: (none(k)(), hash(none(k)())),
    lambda k: (lambda n: n() == n())(none(k)),
    lambda k: none(k)(1),
    lambda k: (repr(own(k)()), hash(own(k)()), own(k)() == 3, own(k)(value=4).value),
]


def outcome(call: Callable[[Any], object], decorator: Any) -> tuple[str, str]:
    try:
        return "is", repr(call(decorator))
    except (TypeError, ValueError, AttributeError) as error:
        return type(error).__name__, str(error)


@pytest.mark.parametrize("call", CALLS)
def test_it_is_what_the_library_makes(call: Callable[[Any], object]) -> None:
    assert outcome(call, frozen) == outcome(call, SLOTS)
    assert outcome(call, frozen(slots=False)) == outcome(call, dataclass(frozen=True))


def test_without_eq_each_is_equal_to_itself_alone() -> None:
    kept, twin = (one(frozen(eq=False))("v") for _ in range(2))
    assert kept == kept and kept != twin and len({kept, twin}) == 2
    kind = one(frozen(eq=False))
    assert kind("v") != kind("v") and len({kind("v"), kind("v")}) == 2


@frozen
class Kept:
    name: str
    rows: tuple[int, ...] = ()
    inner: "Kept | None" = None


@frozen(slots=False)
class Wide:
    side: int

    @cached_property
    def area(self) -> int:
        return self.side**2


class Named(Kept):
    """Derived, with an initialiser and an attribute of its own."""

    def __init__(self, name: str) -> None:
        super().__init__(name.upper(), (1,))
        self.more = len(name)


def test_it_is_pickled_compared_and_matched() -> None:
    kept = Kept("a", (1, 2), Kept("b"))
    assert pickle.loads(pickle.dumps(kept)) == kept and not hasattr(kept, "__dict__")
    assert {kept: 1}[Kept("a", (1, 2), Kept("b"))] == 1
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'other'"):
        kept.other = 1  # type: ignore[attr-defined]
    match kept:
        case Kept(name, rows):
            assert (name, rows) == ("a", (1, 2))
    assert Wide(3).area == 9 and pickle.loads(pickle.dumps(Wide(3))) == Wide(3)


def test_what_is_derived_has_its_own_attributes_and_its_bases_stay_frozen() -> None:
    named = Named("ab")
    assert (named.name, named.rows, named.more) == ("AB", (1,), 2) and named != Kept("AB", (1,))
    with pytest.raises(FrozenInstanceError, match="cannot assign to field 'name'"):
        named.name = "c"  # type: ignore[misc]

    @frozen
    class Longer(Kept):
        last: int = 5

    assert repr(Longer("x", last=6)).endswith("Longer(name='x', rows=(), inner=None, last=6)")
    assert Longer("x") != Kept("x") and Longer("x") == Longer("x", last=5)
