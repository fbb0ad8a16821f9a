"""Stages after filtering: duplicates, contamination, balance, choices by hand, split. Each keeps rows aside with why.

Every one is a function of rows and options alone: run again, it gives the same.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence

from likely.engine.base.errors import DataError
from likely.engine.measure.evaluate.figures import contamination
from likely.engine.measure.evaluate.figures.contamination import words
from likely.engine.measure.synth import inputs
from likely.engine.measure.synth.config import BalanceOptions, DecontaminateOptions, DeduplicateOptions, SplitOptions
from likely.engine.measure.synth.duplicates import duplicates
from likely.engine.measure.synth.row import SynthRow, digest
from likely.engine.train.data import row_choices

SIDES = ("train", "valid", "test")


def deduplicate(rows: Sequence[SynthRow], options: DeduplicateOptions, names: Mapping[str, str] = {}) -> list[SynthRow]:
    """All rows; those that repeat one before them, or one of `against`, are kept aside, with how similar they are."""
    before = inputs.texts([pair for source in options.against for pair in inputs.pairs(source, names)])
    live = [row for row in rows if not row.dropped]
    same = dict(zip((row.id for row in live), duplicates([row.text for row in live], options, before), strict=True))
    marked = []
    for row in rows:
        if not row.dropped and (of := same[row.id]) is not None:
            number, similar = of
            kind = "equal to" if similar == 1 else "nearly"
            row = row.scored(jaccard=similar).out(f"deduplicate: {kind} {'a known row' if number < 0 else 'another'}")
        marked.append(row)
    return marked


def decontaminate(
    rows: Sequence[SynthRow], options: DecontaminateOptions, names: Mapping[str, str] = {}
) -> list[SynthRow]:
    """All rows; those that share a run of 13 words with what is to be stayed away from, or ask the same, aside."""
    known = [pair for source in options.against for pair in inputs.pairs(source, names)]
    if not known:
        return list(rows)
    runs = contamination.known(inputs.texts(known))
    prompts = {digest(asks) for asks, _ in known if asks}
    whole = {digest(text) for text in inputs.texts(known)}

    def why(row: SynthRow) -> str:
        asks, _ = row.sides
        if asks and digest(asks) in prompts:
            return "decontaminate: asks what is evaluated"
        if digest(row.text) in whole or runs.has(words(row.text)):
            return f"decontaminate: shares {contamination.RUN} words"
        return ""

    return [row.out(reason) if not row.dropped and (reason := why(row)) else row for row in rows]


def class_of(row: SynthRow, by: str) -> str:
    """The class that a row is in: what it says, or an attribute. DataError where it has no such attribute."""
    if by == "answer":
        return _named(row.completion, by)
    if by not in row.source.attributes:
        there = ", ".join(row.source.attributes) or "none"
        raise DataError(f"balance.by = {by!r} is no attribute of these rows ({there}): give one, or answer")
    return row.source.attributes[by]


def balance(rows: Sequence[SynthRow], options: BalanceOptions, seed: int) -> list[SynthRow]:
    """All rows; of each parent and then of each class only so many are kept, chosen by a hash of their ids. Those of
    a class that there should not be are aside."""
    aside: dict[str, str] = {}

    def left() -> list[SynthRow]:
        live = [row for row in rows if not row.dropped and row.id not in aside]
        return sorted(live, key=lambda row: _rank(row, seed))

    if options.per_parent:
        counts: Counter[str] = Counter()
        for row in left():
            counts[row.source.parent] += 1
            if counts[row.source.parent] > options.per_parent:
                aside[row.id] = "balance: enough of this problem"
    if options.by:
        groups: defaultdict[str, list[SynthRow]] = defaultdict(list)
        allowed = {_named(name, options.by) for name in options.classes}
        for row in left():
            kind = class_of(row, options.by)
            if allowed and kind not in allowed:
                aside[row.id] = "balance: of no class"
            else:
                groups[kind].append(row)
        most = options.most or min((len(group) for group in groups.values()), default=0)
        for group in groups.values():
            aside |= {row.id: "balance: enough of this class" for row in group[most:]}
    return [row.out(aside[row.id]) if row.id in aside else row for row in rows]


def empty_classes(rows: Sequence[SynthRow], options: BalanceOptions) -> list[str]:
    """Classes that there should be and no row is of."""
    if not options.classes:
        return []
    there = {class_of(row, options.by) for row in rows if not row.dropped}
    return [name for name in options.classes if _named(name, options.by) not in there]


def chosen(rows: Sequence[SynthRow], choice: Mapping[str, bool]) -> list[SynthRow]:
    """All rows; those that a person dropped are aside, and of those that they kept one copy each is back, whatever of
    `choices.BACK` kept it aside."""
    keys = [row_choices.key(row.parsed) for row in rows]
    there = {key for key, row in zip(keys, rows, strict=True) if not row.dropped}
    marked = []
    for key, row in zip(keys, rows, strict=True):
        keep = choice.get(key)
        if keep is False and not row.dropped:
            row = row.out("choice: dropped by hand")
        elif keep and key not in there and row_choices.can_come_back(row.dropped):
            row = row.out("")
            there.add(key)
        marked.append(row)
    return marked


def split(rows: Sequence[SynthRow], options: SplitOptions, seed: int) -> dict[str, list[SynthRow]]:
    """The rows that are kept, by side; all of one parent are on one. Which side follows from the parent's name."""
    by_side: dict[str, list[SynthRow]] = {side: [] for side in SIDES}
    for row in rows:
        if row.dropped:
            continue
        place = int.from_bytes(hashlib.sha256(f"{seed} {row.source.parent}".encode()).digest()[:6], "big") / 2**48
        side = "valid" if place < options.valid else "test" if place < options.valid + options.test else "train"
        by_side[side].append(row)
    return by_side


def _named(name: str, by: str) -> str:
    """A class as `class_of` gives it."""
    return " ".join(words(name)) if by == "answer" else name


def _rank(row: SynthRow, seed: int) -> str:
    return hashlib.sha256(f"{seed} {row.id}".encode()).hexdigest()
