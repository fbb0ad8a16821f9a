"""Tables of looks inside, from figures that were made by hand: as values, in a terminal, with commas, as a picture."""

import csv
import io
import json
import math
from types import SimpleNamespace
from typing import Any, cast
from xml.etree import ElementTree

import pytest

from likely.app import inside_tables
from likely.app.cli import inside_text
from likely.app.inside_tables import FORMS, Grid, Values, Words
from likely.engine.errors import DataError

PIECES = (b" a", b"\n", b"b<c", b"\xff", b"", b" the quite long")
WORDS = Words(cast(Any, SimpleNamespace(piece=lambda token: PIECES[token])), (0, 1, 2, 3, 4))
LATER = Words(WORDS.vocabulary, (0, 1, 2, 3, 4), 3)
BITS = math.log(2)
FOUND: dict[str, Any] = {
    "lens": {
        "top": [[0, 5], [1, 2], [2, 2]], "p": [[0.0, 0.05], [0.2, 0.39], [0.4, 1.0]], "kl": [], "rank": [],
        "decided": [0, 2],
    },
    "heads": [[[0.0, 0.0], [BITS, 3 * BITS]], [[math.log(5)] * 2, [2.0, 2.5]]],
    "scores": {
        "induction": [[0.1, 0.9], [0.5, 0.7]], "duplicate": [[0.2, 0.1]], "previous": [[0.3], [0.4]], "first": [[1.0]],
    },
    "attention": [[0.99951, 0.00049, 0.0005, 0, 0], [0.25, 0.75, 0.0, 0, 0]],
    "attribution": {
        "heads": [[0.5, -2.0], [0.25, 0.0]], "mlp": [1.0, -1.5], "embedding": 0.75, "bias": -0.125, "sum": -1.125,
        "logit": -1.25, "token": 2,
    },
    "ablate": {"token": 2, "logit": 4.0, "effect": -1.5},
    "patch": {
        "part": "mlp", "answer": 0, "foil": 2, "clean": 1.5, "corrupted": -0.5, "correlation": 0.987,
        "effects": [[0.0, 0.5], [1.0, -0.25]],
    },
    "importance": {"token": 0, "left_out": [0.1, -0.3, 0.2, 0, 0.05], "logprob": -1.5, "agreement": 0.755},
    "spellings": {
        "spellings": [{"ids": [0], "logprob": -2.0, "own": True}, {"ids": [1, 2], "logprob": -3.0, "own": False}],
        "logprob": -1.7, "complete": True,
    },
    "toward": {"layer": 3, "norm": 2.345, "weights": [0.5, 4.0], "kl": [0.01, 0.2]},
    "neighbours": [{"id": 2, "cosine": 0.75}, {"id": 4, "cosine": 0.5}],
    "rollout": [[1.0, 0, 0, 0, 0], [0.5, 0.5, 0, 0, 0]],
    "sum": {
        "plus": [0], "minus": [1], "accuracy": 0.456, "left_out": [{"id": 2, "cosine": 0.75}],
        "kept": [{"id": i, "cosine": 0.9 - 0.1 * i} for i in range(4)],
    },
    "relations": [
        {"name": "capitals", "sums": 3, "kept": 0.125, "left_out": 0.5, "interval": (0.25, 0.76)},
        {"name": "plurals", "sums": 3, "kept": 1.0, "left_out": 0.75, "interval": (0.6, 0.9)},
    ],
    "merges": [["a", " b", "c"], ["a b", "c"]],
}  # fmt: skip
GRIDS = ("lens", "heads", "attention", "patch", "rollout")


def form(look: str, **more: Any) -> Grid | Values:
    found = FOUND[look] | more if isinstance(FOUND[look], dict) else FOUND[look]
    return FORMS[look](found, LATER if look in ("lens", "patch", "attention", "rollout") else WORDS)


def values(look: str, **more: Any) -> Values:
    made = form(look, **more)
    assert isinstance(made, Values)
    return made


def grid(look: str, **more: Any) -> Grid:
    made = form(look, **more)
    assert isinstance(made, Grid)
    return made


def test_a_token_is_named_so_that_all_of_it_is_seen() -> None:
    assert [WORDS.name(token) for token in range(6)] == ["·a", "\\n", "b<c", "�", "∅", "·the·quite·long"]
    assert WORDS.positions() == ["·a", "\\n", "b<c", "�", "∅"] and LATER.positions() == ["�", "∅"]
    assert Words(WORDS.vocabulary, (2, 0)).first == 0


def test_as_many_columns_as_fit_and_one_at_least(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    shown = Grid("t", ["c0", "c1", "c2"], ["r"], [[0, 0, 0]], [["x", "y", "z"]], cell=5)
    for columns, head in (
        ("28", f"{'':14}← 1 more"), ("29", f"{'':14}c0   c1   c2   "), ("24", f"{'':14}← 1 more"),
        ("23", f"{'':14}← 2 more"),
        ("5", f"{'':14}← 2 more"),
    ):  # fmt: skip
        monkeypatch.setenv("COLUMNS", columns)
        inside_text.show(shown)
        assert capsys.readouterr().out.splitlines()[1] == head, columns


def test_bars_are_in_eighths_of_a_cell_and_the_rest_is_counted(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [("longest name of them all", -8.0), *((f"v{i}", x) for i, x in enumerate((4.0, 1 / 24, 0.0)))]
    inside_text.show(Values("t", rows))
    lines = capsys.readouterr().out.splitlines()
    assert lines == [
        "t",
        f"longest name of th… {-8:>10.4f}  {'█' * 24}",
        f"v0                  {4:>10.4f}  {'█' * 12}",
        "v1                      0.0417  ▏",
        "v2                      0.0000  ",
    ]
    for count in (12, 13, 14):
        inside_text.show(Values("t", [(f"v{i}", 0.0) for i in range(count)]))
        said = capsys.readouterr().out.splitlines()
        more = [] if count == 12 else [f"{count - 12} smaller ones are left out here: --csv and --json have all"]
        assert said[13:] == more
    inside_text.show(Values("t", [], "note"))
    assert capsys.readouterr().out == "t\nnote\n"


def test_a_picture_has_every_cell_and_more_colour_where_there_is_more() -> None:
    made = grid("heads")
    drawn = ElementTree.fromstring(inside_tables.svg(made))
    texts = ["".join(each.itertext()) for each in drawn.iter() if each.tag.endswith("text")]
    cells = [cell.strip() for row in made.texts for cell in row]
    assert all(cell in [text.strip() for text in texts] for cell in cells)
    drawn = inside_tables.svg(Grid("a<b", ["c"] * 4, ["r"], [[-1.0, 0.0, 0.5, 2.0]], [["x"] * 4], cell=3))
    red = [int(part.partition(",")[0]) for part in drawn.split('fill="rgb(')[1:]]  # of ever darker cells
    assert "a&lt;b" in drawn and red[0] == red[1] == 255 > red[2] > red[3]


def test_a_file_is_as_its_ending_says() -> None:
    given = WORDS.vocabulary, WORDS.ids, 0
    assert inside_tables.written(".CSV", *given, "ablate", FOUND["ablate"]) == inside_tables.csv_text(form("ablate"))
    said = inside_tables.written(".json", *given, "ablate", FOUND["ablate"])
    assert said.endswith("}\n") and json.loads(said) == {"ids": [0, 1, 2, 3, 4], "ablation": FOUND["ablate"]}
    assert json.loads(inside_tables.written(".json", *given[:2], 2, "heads", FOUND["heads"]))["first"] == 2
    drawn = inside_tables.written(".svg", *given, "heads", FOUND["heads"])
    assert drawn == inside_tables.svg(grid("heads")) + "\n"
    for suffix, look, line in (
        (".svg", "ablate", "this is none: take .csv for ablation"), (".png", "heads", "got .png"),
        ("", "heads", "got a name without an ending"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=line):
            inside_tables.written(suffix, *given, look, FOUND[look])


def test_commas_have_every_number() -> None:
    for look in FORMS:
        made, rows = form(look), list(csv.reader(io.StringIO(inside_tables.csv_text(form(look)))))
        if isinstance(made, Values):
            assert rows[0][0] == "name" and [row[0] for row in rows[1:]] == [name for name, _ in made.rows]
            assert [float(row[1]) for row in rows[1:]] == pytest.approx([value for _, value in made.rows], rel=1e-4)
        else:
            assert rows[0][1:] == [column.strip() for column in made.columns] and len(rows) == 1 + len(made.rows)


def test_kinds_show_the_three_heads_that_are_most_of_each() -> None:
    assert values("scores").rows == [
        ("induction 0.1", 0.9), ("induction 1.1", 0.7), ("induction 1.0", 0.5), ("duplicate 0.0", 0.2),
        ("duplicate 0.1", 0.1), ("previous 1.0", 0.4), ("previous 0.0", 0.3), ("first 0.0", 1.0),
    ]  # fmt: skip


def test_heads_of_a_single_token_have_a_width_too() -> None:
    alone = FORMS["heads"]([[[0.0]]], Words(WORDS.vocabulary, (0,)))
    assert isinstance(alone, Grid) and alone.shares == [[1.0]]
    assert grid("heads").shares == [[1.0, pytest.approx(1 - 2 * BITS / math.log(5))], [0.0, 0.0]]


def test_notes_say_only_what_is_known() -> None:
    assert values("attribution", against=0).title.endswith("the logit of b<c (2) over ·a (0)")
    assert values("attribution", against=0).note == "sum -1.1250 · logit -1.2500"
    assert values("importance", agreement=None).note == "surprisal 2.1640 bits"
    assert grid("patch", correlation=None).note == "difference of logits 1.500 clean, -0.500 corrupted"
    heads = grid("patch", part="heads")
    assert heads.columns == ["head 0", "head 1"] and heads.title.endswith("heads brings back, at each layer and head")
    assert values("sum", accuracy=None).note == "with them: ·a 0.900, \\n 0.800, b<c 0.700"
    assert values("spellings", complete=False).note.startswith("all that were scored together 2.4526 bits")
