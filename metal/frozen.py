"""Frozen dataclasses that are made fast: a start makes 130, and the library takes 0.2 to 0.3 ms for each.

`@frozen` is `@dataclass(frozen=True, slots=True)` to a type checker, to `fields`, `replace`, `asdict`, `match`, `copy`
and `pickle`. The library compiles a text for each of six methods of a class; here five are closures, and `__init__` is
compiled when the first instance is made. A class that others derive a library's dataclass from (`Strategy`) stays one.
"""

from collections.abc import Callable
from dataclasses import MISSING, FrozenInstanceError, dataclass, field, fields
from operator import attrgetter
from reprlib import recursive_repr
from typing import Any, TypeVar, dataclass_transform, overload

C = TypeVar("C", bound=type)


@overload
def frozen(cls: C) -> C: ...
@overload
def frozen(*, slots: bool = True, eq: bool = True) -> Callable[[C], C]: ...
@dataclass_transform(frozen_default=True, field_specifiers=(field,))
def frozen(cls: Any = None, *, slots: bool = True, eq: bool = True) -> Any:
    """A class with the fields that are annotated in it, whose instances do not change. `eq`: two with the same values
    are equal and have one hash. Without `slots` it can hold what is not a field (`cached_property`)."""
    return _made(cls, slots, eq) if cls is not None else lambda kind: _made(kind, slots, eq)


def _made(cls: type, slots: bool, eq: bool) -> type:
    own = cls.__dict__
    if own.get("__doc__") is None:
        cls.__doc__ = cls.__name__  # the library would have it of `inspect.signature`, which costs as much as the rest
    kind: Any = dataclass(init=False, repr=False, eq=False, slots=slots)(cls)
    known = fields(kind)
    names = frozenset(each.name for each in known)

    def __init__(self: Any, *args: Any, **values: Any) -> None:
        kind.__init__ = _initialiser(kind)
        kind.__init__(self, *args, **values)

    def __setattr__(self: Any, name: str, value: object) -> None:
        if type(self) is kind or name in names:
            raise FrozenInstanceError(f"cannot assign to field {name!r}")
        super(kind, self).__setattr__(name, value)

    def __delattr__(self: Any, name: str) -> None:
        if type(self) is kind or name in names:
            raise FrozenInstanceError(f"cannot delete field {name!r}")
        super(kind, self).__delattr__(name)

    if "__init__" not in own:
        kind.__init__ = __init__
    kind.__setattr__, kind.__delattr__ = __setattr__, __delattr__
    if "__repr__" not in own:
        kind.__repr__ = _repr
    if slots and "__getstate__" not in own:
        kind.__getstate__, kind.__setstate__ = _state, _restore
    if eq:
        compared = _values([each.name for each in known if each.compare])
        hashed = _values([each.name for each in known if (each.compare if each.hash is None else each.hash)])

        def __eq__(self: Any, other: object) -> Any:
            return compared(self) == compared(other) if other.__class__ is self.__class__ else NotImplemented

        def __hash__(self: Any) -> int:
            return hash(hashed(self))

        if "__eq__" not in own:
            kind.__eq__ = __eq__
        if own.get("__hash__") is None:
            kind.__hash__ = __hash__
    return kind  # type: ignore[no-any-return]


def _values(names: list[str]) -> Callable[[Any], tuple[Any, ...]]:
    """The fields of these names as a tuple, as a dataclass compares them: the same object is equal to itself."""
    if len(names) > 1:
        return attrgetter(*names)
    return lambda of: tuple([getattr(of, name) for name in names])


def _initialiser(kind: Any) -> Callable[..., None]:
    """`__init__` of the fields, as the library writes it."""
    known = fields(kind)
    space: dict[str, Any] = {"_missing_": MISSING, "_put_": object.__setattr__}
    ordered = [each for each in known if each.init and not each.kw_only]
    named = [each for each in known if each.init and each.kw_only]
    taken = ["self"]
    for each in [*ordered, *named]:
        default = ""
        if each.default is not MISSING:
            space[f"of_{each.name}"], default = each.default, f"=of_{each.name}"
        elif each.default_factory is not MISSING:
            default = "=_missing_"
        if named and each is named[0]:
            taken.append("*")
        taken.append(f"{each.name}{default}")
    lines = [f"def __init__({', '.join(taken)}):"]
    for each in known:
        value = each.name if each.init else f"of_{each.name}"
        if each.default_factory is not MISSING:
            space[f"new_{each.name}"] = each.default_factory
            value = f"new_{each.name}() if {value} is _missing_ else {value}" if each.init else f"new_{each.name}()"
        elif not each.init:
            if each.default is MISSING:
                continue  # `__post_init__` sets it
            space[f"of_{each.name}"] = each.default
        lines.append(f"  _put_(self, {each.name!r}, {value})")
    lines.append("  self.__post_init__()" if hasattr(kind, "__post_init__") else "  pass")
    exec("\n".join(lines), space)
    made: Callable[..., None] = space["__init__"]
    made.__qualname__ = f"{kind.__qualname__}.__init__"
    return made


@recursive_repr()
def _repr(self: Any) -> str:
    shown = (f"{each.name}={getattr(self, each.name)!r}" for each in fields(self) if each.repr)
    return f"{self.__class__.__qualname__}({', '.join(shown)})"


def _state(self: Any) -> list[Any]:
    return [getattr(self, each.name) for each in fields(self)]


def _restore(self: Any, state: list[Any]) -> None:
    for each, value in zip(fields(self), state, strict=True):
        object.__setattr__(self, each.name, value)
