"""Small data sets to fine-tune on, written for this project: rows to train on, and rows that are held out.

Six by which defaults are judged: facts of a product that does not exist, with paraphrases of a quarter of its
questions; a manner of speaking; a format; labels; sums; and a text. All but the facts and the text are generated, so
that held-out rows are of the same rule. Eight so that what is made for those paraphrases is not made for them alone:
paraphrases of the other facts, a second subject, and six products as their buyers would ask about them, with
paraphrases of a quarter each, written before any training on them. Knows no model.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

Rows = tuple[list[dict[str, str]], list[dict[str, str]]]  # to train on, held out

PRODUCTS = ("bicycle", "editor", "mower", "composter", "fermenter", "proofer")  # three by one writer, one each by three

NAMES = "Anna Bela Cyril Dora Emil Frida Goran Hedda Ivo Jana Karl Lena Milo Nora Otto Pia Rolf Sara Timo Vera".split()  # noqa: SIM905
CITIES = "Riga Turin Lyon Bergen Ghent Porto Graz Malmo Split Cork".split()  # noqa: SIM905
ASKED = """close the window; bring me the bill; wait outside; pass the salt; call me back; move your car;
turn the music down; send me the file; sign this form; speak more slowly; hold the door; check the oven;
water the plants; feed the cat;
lend me a pen; show me the way; read this letter; carry this box; cut the bread; clean the table; park on the left;
open a new account; write that down; keep the change; take a seat; ring the bell; stop the engine; fold the towels;
print two copies; empty the bin; lock the shed; paint the fence; test the brakes; tune the piano; sort the mail;
wash the cups; warm the soup; weigh the parcel; wrap the gift; mend the tent; count the chairs; find my keys;
hang up the coat; light the fire; pack the bag; peel the apples; pour the tea; raise the flag; rake the leaves;
roll the dough; sew the button; shake the rug; shut the gate; start the pump; stir the paint; switch off the lamp;
tie the rope; fill the tank; book a table; order a taxi; bake a cake; dry the dishes; dig a hole; draw a map"""
GOOD = """loved it; works perfectly; worth every cent; a joy to use; could not be happier; beautifully made;
arrived early"""
BAD = """broke at once; a waste of money; never again; arrived damaged; very disappointed; stopped working;
feels cheap"""
THINGS = """the kettle; this lamp; my new chair; the blender; the jacket; this phone; the tent; the pillow"""


def facts() -> Rows:
    """60 questions about a product that does not exist; held out are 15 of them in other words."""
    return _asked("facts", 2)


def further() -> Rows:
    """The same 60 questions; held out are the other 45 in other words."""
    return _asked("facts", 4)


def museum() -> Rows:
    """30 questions about a museum that does not exist; held out are all of them in other words."""
    return _asked("museum", 2)


def product(subject: str) -> Rows:
    """60 questions about one of PRODUCTS, none of which exists; held out are 15 of them in other words."""
    return _asked("products", 2, subject)


def style() -> Rows:
    """Orders said politely, always in the same words."""
    return _split(
        [_row(f"Say it politely: {o}", f"Would you be so kind as to {o}, my friend?") for o in _words(ASKED)], 16
    )


def format_() -> Rows:
    """Particulars of a person as JSON."""
    random, rows = np.random.default_rng(1), []
    for name in NAMES:
        for city in random.permutation(CITIES)[:3]:
            age, job = int(random.integers(18, 80)), str(random.choice(["baker", "nurse", "pilot", "judge"]))
            json = f'{{"person": "{name}", "years": {age}, "place": "{city}", "work": "{job}"}}'
            rows.append(_row(f"{name} is {age}, lives in {city} and is a {job}.", json))
    return _split(rows, 15)


def classes() -> Rows:
    """Reviews, by one of two invented labels."""
    rows = [
        _row(f"About {thing}: {said}.", label)
        for thing in _words(THINGS)
        for label, all_said in (("ZEP", GOOD), ("MUR", BAD))
        for said in _words(all_said)
    ]
    return _split(rows, 40)


def sums() -> Rows:
    """Sums of two numbers of two digits."""
    random = np.random.default_rng(2)
    pairs = [divmod(int(n), 90) for n in random.choice(8100, 100, replace=False)]
    return _split([_row(f"What is {a + 10} + {b + 10}?", str(a + b + 20)) for a, b in pairs], 40)


def text() -> Rows:
    """Pages of this project's documentation, paragraph by paragraph; the last quarter is held out."""
    docs = Path(__file__).parent.parent / "docs"
    pages = [(docs / f"{name}.md").read_text(encoding="utf-8") for name in ("estimate", "posterior", "scale", "synth")]
    paragraphs = [{"text": part.strip()} for page in pages for part in page.split("\n\n") if len(part) > 200]
    first = len(paragraphs) * 3 // 4
    return paragraphs[:first], paragraphs[first:]


SETS: dict[str, Callable[[], Rows]] = {
    "facts": facts, "style": style, "format": format_, "classes": classes, "sums": sums, "text": text,
    "further": further, "museum": museum, **{name: partial(product, name) for name in PRODUCTS},
}  # fmt: skip


def _asked(table: str, other: int, subject: str = "") -> Rows:
    """Questions and answers of a table, and those that it has in other words in a column, with what is to be said.
    `subject`: of a table of several, whose first column it stands in."""
    lines = (Path(__file__).parent / f"{table}.tsv").read_text(encoding="utf-8").splitlines()[1:]
    entries = [line.split("\t") for line in lines]
    if subject:
        entries = [entry[1:] for entry in entries if entry[0] == subject]
    held = [_row(entry[other], entry[other + 1]) for entry in entries if len(entry) > other and entry[other]]
    return [_row(entry[0], entry[1]) for entry in entries], held


def _words(text: str) -> list[str]:
    return [part.strip() for part in text.split(";")]


def _row(prompt: str, completion: str) -> dict[str, str]:
    return {"prompt": prompt, "completion": completion}


def _split(rows: list[dict[str, str]], held: int) -> Rows:
    mixed: list[Any] = [rows[i] for i in np.random.default_rng(0).permutation(len(rows))]
    return mixed[held:], mixed[:held]
