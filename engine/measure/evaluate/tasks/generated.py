"""Generated tasks: items made from a seed, whose right answer is known exactly. No model.

They measure what they say and no more: a model that has seen none of these items still has seen their like. Texts of
known entropy are the yardstick of the measuring itself: no model can be below it but by luck.
"""

import math
import random
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import islice

from likely.engine.base.errors import ParameterError
from likely.engine.measure.evaluate.tasks.tasks import Row, Task, TaskSettings

ITEMS = 200
SAID = (
    "apple river stone cloud table green music paper light horse water bread night chair garden winter summer bridge "
    "silver orange window letter market forest island pepper candle basket mirror rocket planet copper butter pencil"
)
WORDS = SAID.split()
CITIES = ("Berlin", "Cairo", "Lima", "Oslo", "Paris", "Quito", "Rome", "Seoul", "Tunis", "Vienna")


CALLS: dict[str, tuple[str, str, dict[str, str]]] = {  # of tools: a question, what each does, and takes
    "add": ("What is {a} plus {b}?", "Adds two whole numbers.", {"a": "integer", "b": "integer"}),
    "multiply": ("What is {a} times {b}?", "Multiplies two whole numbers.", {"a": "integer", "b": "integer"}),
    "weather": ("What is the weather in {city} now?", "Says today's weather in a city.", {"city": "string"}),
    "clock": ("What time is it in {city}?", "Says the time in a city.", {"city": "string"}),
    "price": ("What does {item} cost in the shop?", "Says the price of an article of the shop.", {"item": "string"}),
    "timer": ("Wake me in {minutes} minutes.", "Rings after some minutes.", {"minutes": "integer"}),
}
UNAIDED = ("Say hello.", "Name a colour.", "Write a sentence about a {item}.", "Which language is spoken in {city}?")


@dataclass(frozen=True)
class Maker:
    """A generated task: rows without end from a source of chance and a size, which is how hard they are."""

    about: str
    rows: Callable[[random.Random, int], Iterator[Row]]
    size: int
    scorer: str = "exact"  # "": nothing is drawn
    shots: int = 3
    max_tokens: int = 48
    stop: tuple[str, ...] = ("\n",)
    entropy: Callable[[int], float] | None = None  # nats a symbol


def _endless(make: Callable[[random.Random, int], Row]) -> Callable[[random.Random, int], Iterator[Row]]:
    def rows(chance: random.Random, size: int) -> Iterator[Row]:
        while True:
            yield make(chance, size)

    return rows


def _arithmetic(chance: random.Random, size: int) -> Row:
    """A sum, column by column in the scratchpad of the examples."""
    low = 10 ** (size - 1)
    a, b = (chance.randrange(low, 10 * low) for _ in range(2))
    carry, steps = 0, []
    for place in range(size):
        x, y = a // 10**place % 10, b // 10**place % 10
        steps.append(f"{x}+{y}+{carry}={x + y + carry}")
        carry = (x + y + carry) // 10
    return {"prompt": f"{a} + {b} =", "answer": f"{', '.join(steps)}. The answer is {a + b}"}


def _last_letters(chance: random.Random, size: int) -> Row:
    words = chance.sample(WORDS, size)
    return {"prompt": f"Last letters of {' '.join(words)}:", "answer": "".join(word[-1] for word in words)}


def _sorting(chance: random.Random, size: int) -> Row:
    numbers = chance.sample(range(100), size)
    return {"prompt": f"Sort {' '.join(map(str, numbers))}:", "answer": " ".join(map(str, sorted(numbers)))}


def _copying(chance: random.Random, size: int) -> Row:
    words = " ".join(chance.choice(WORDS) for _ in range(size))
    return {"prompt": f"Copy {words}:", "answer": words}


def _needle(chance: random.Random, size: int) -> Row:
    """A number said once among `size` sentences that do not matter."""
    city, number = chance.choice(CITIES), chance.randrange(1000, 10_000)
    hay = [f"The {a} stands beside the {b}." for a, b in (chance.sample(WORDS, 2) for _ in range(size))]
    hay.insert(chance.randrange(size + 1), f"The secret number of {city} is {number}.")
    return {"prompt": f"{' '.join(hay)} What is the secret number of {city}? It is", "answer": str(number)}


def _lookup(chance: random.Random, size: int) -> Row:
    keys, values = chance.sample(WORDS, size), [str(chance.randrange(100, 1000)) for _ in range(size)]
    at = chance.randrange(size)
    table = ", ".join(f"{key}: {value}" for key, value in zip(keys, values, strict=True))
    return {"prompt": f"{table}. The value of {keys[at]} is", "answer": values[at]}


PAIRS = {"(": ")", "[": "]", "{": "}"}


def _brackets(chance: random.Random, size: int) -> Row:
    """Brackets that close an opened sequence; the verifier is the stack itself."""
    brackets = ""
    stack: list[str] = []
    while len(brackets) < size or not stack:
        if stack and chance.random() < 0.4:
            brackets += PAIRS[stack.pop()]
        else:
            stack.append(chance.choice("([{"))
            brackets += stack[-1]
    return {"prompt": f"Close {' '.join(brackets)} with", "answer": " ".join(PAIRS[one] for one in reversed(stack))}


def _tools(chance: random.Random, size: int) -> Row:
    """A question with `size` tools, of which one answers it; or, a third of them, none."""
    values = {"a": chance.randrange(100, 1000), "b": chance.randrange(100, 1000), "city": chance.choice(CITIES),
              "item": chance.choice(WORDS), "minutes": chance.randrange(2, 60)}  # fmt: skip
    name = chance.choice([*CALLS])
    offered = chance.sample([name, *chance.sample([other for other in CALLS if other != name], size - 1)], size)
    tools = [
        {"name": tool, "description": CALLS[tool][1], "parameters": {
            "type": "object", "properties": {key: {"type": kind} for key, kind in CALLS[tool][2].items()},
            "required": [*CALLS[tool][2]]}}
        for tool in offered
    ]  # fmt: skip
    if chance.random() < 1 / 3:
        return {"prompt": chance.choice(UNAIDED).format(**values), "tools": tools, "call": None}
    call = {"name": name, "arguments": {key: values[key] for key in CALLS[name][2]}}
    return {"prompt": CALLS[name][0].format(**values), "tools": tools, "call": call}


LETTERS = "abcdefgh"
LAW = (0.5, 0.25, 0.125, 0.125)  # of the letters that may follow: 1.75 bits


def _chain(chance: random.Random, size: int) -> Iterator[tuple[str, list[str]]]:
    """Texts in which each letter has four that may follow, by the same law, and these four of the last; which four is
    drawn once."""
    after = {letter: chance.sample(LETTERS, 4) for letter in LETTERS}
    while True:
        text = [chance.choice(LETTERS)]
        while len(text) < size:
            text += chance.choices(after[text[-1]], LAW)
        yield " " + " ".join(text), after[text[-1]]


def _markov(chance: random.Random, size: int) -> Iterator[Row]:
    return ({"text": text} for text, _ in _chain(chance, size))


def _markov_law(chance: random.Random, size: int) -> Iterator[Row]:
    for text, after in _chain(chance, size):
        yield {"context": text, "law": {f" {letter}": p for letter, p in zip(after, LAW, strict=True)}}


MAKERS: dict[str, Maker] = {
    "arithmetic": Maker("sums of two numbers, with a scratchpad", _endless(_arithmetic), 3, "numeric"),
    "last-letters": Maker("the last letters of words", _endless(_last_letters), 3, "normalised"),
    "sorting": Maker("numbers in order", _endless(_sorting), 5),
    "copying": Maker("words again", _endless(_copying), 8),
    "needle": Maker("a number said once at a distance", _endless(_needle), 20, "numeric", shots=0, max_tokens=12),
    "lookup": Maker("the value of a key", _endless(_lookup), 8, "numeric", max_tokens=12),
    "brackets": Maker("what closes a sequence of brackets", _endless(_brackets), 10),
    "tools": Maker(
        "which tool a question wants, with which arguments, or none", _endless(_tools), 3, "", shots=0,
        max_tokens=256, stop=(),
    ),
    "markov": Maker(
        "texts of 1.75 bits a letter", _markov, 200, "", shots=0,
        entropy=lambda size: (math.log(len(LETTERS)) - (size - 1) * sum(p * math.log(p) for p in LAW)) / size,
    ),
    "markov-law": Maker("what follows such a text, against the true law", _markov_law, 100, "", shots=0),
}  # fmt: skip
FORM = re.compile(r"(?P<name>[a-z-]+)(?::(?P<options>.*))?")


def generated(text: str) -> Task | None:
    """The task of a text form, `arithmetic` or `arithmetic:size=4,seed=1,items=500`; None for no such name.

    ParameterError for an option that there is not.
    """
    match = FORM.fullmatch(text)
    if match is None or match["name"] not in MAKERS:
        return None
    name, maker = match["name"], MAKERS[match["name"]]
    options = {"size": maker.size, "seed": 0, "items": ITEMS, "shots": maker.shots}
    for part in (match["options"] or "").split(",") if match["options"] else []:
        key, _, value = part.partition("=")
        if key not in options or not value.isdigit():
            raise ParameterError(f"{text}: expected size, seed, items or shots = a number, got {part!r}")
        options[key] = int(value)
    size, items, shots = options["size"], options["items"], options["shots"]
    if name == "tools" and size > len(CALLS):
        raise ParameterError(f"{text}: there are {len(CALLS)} tools, so size is at most that")
    if size < 1 or items < 1 or (not maker.scorer and shots):
        raise ParameterError(f"{text}: size and items must be 1 or more, and texts have no examples")

    def rows() -> Iterator[Row]:
        return islice(maker.rows(random.Random(f"{name} {options['seed']}"), size), shots + items)

    settings = TaskSettings(
        shots=shots, separator="\n", scorers=(maker.scorer,) if maker.scorer else (), max_tokens=maker.max_tokens,
        stop=maker.stop,
    )  # fmt: skip
    identity = f"generated 1 {name} {sorted(options.items())}"
    return Task(text, rows, identity, settings, entropy=None if maker.entropy is None else maker.entropy(size))
