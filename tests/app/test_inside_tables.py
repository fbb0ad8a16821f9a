"""Tables of looks inside, from figures that were made by hand: as values, in a terminal, with commas, as a picture."""

import csv
import io
import json
import math
from dataclasses import asdict, replace
from types import SimpleNamespace
from typing import Any, cast
from xml.etree import ElementTree

import numpy as np
import pytest

from likely.app.cli.reports import inside_text
from likely.app.words import inside_tables
from likely.app.words.inside_tables import FORMS, Words
from likely.app.words.tables import Grid, Values, csv_text, svg
from likely.engine.base.errors import DataError
from likely.engine.inside.questions import (
    Ablation,
    Accuracy,
    Attribution,
    HeadScores,
    Importance,
    Lens,
    Neighbour,
    Patching,
    Spelling,
    Tokenisation,
    WordSum,
)

PIECES = (b" a", b"\n", b"b<c", b"\xff", b"", b" the quite long")
WORDS = Words(cast(Any, SimpleNamespace(piece=lambda token: PIECES[token])), (0, 1, 2, 3, 4))
LATER = Words(WORDS.vocabulary, (0, 1, 2, 3, 4), 3)
BITS = math.log(2)
ARRAY = np.array
FOUND: dict[str, Any] = {
    "lens": Lens(
        ARRAY([[0, 5], [1, 2], [2, 2]]), ARRAY([[0.0, 0.05], [0.2, 0.39], [0.4, 1.0]]), ARRAY([]), ARRAY([]),
    ),
    "heads": ARRAY([[[0.0, 0.0], [BITS, 3 * BITS]], [[math.log(5)] * 2, [2.0, 2.5]]]),
    "scores": HeadScores(
        induction=ARRAY([[0.1, 0.9], [0.5, 0.7]]), duplicate=ARRAY([[0.2, 0.1]]), previous=ARRAY([[0.3], [0.4]]),
        first=ARRAY([[1.0]]), distance=ARRAY([]), entropy=ARRAY([]),
    ),
    "attention": ARRAY([[0.99951, 0.00049, 0.0005, 0, 0], [0.25, 0.75, 0.0, 0, 0]]),
    "attribution": Attribution(2, None, 0.75, ARRAY([[0.5, -2.0], [0.25, 0.0]]), ARRAY([1.0, -1.5]), -0.125, -1.25),
    "target": {
        "target": 0, "foil": 2, "surprisal": [1.0, 2.25], "rank": [[5, 3], [1, 2]], "sum": 1.25, "left_out": [(1, 0.5)],
        "wrote": [("mlp 0", -0.25), ("head 0.1", 1.5)],
    },
    "ablate": Ablation(token=2, logit=4.0, effect=-1.5),
    "patch": Patching(
        "mlp", (), 0, 2, 1.5, -0.5, ARRAY([[0.0, 0.5], [1.0, -0.25]]), ARRAY([[0.1, 0.4], [1.0, -0.25]]),
    ),
    "importance": Importance(0, -1.5, ARRAY([0.1, -0.3, 0.2, 0, 0.05]), ARRAY([0.1, -0.3, 0.3, 0.01, 0.0])),
    "spellings": Tokenisation((Spelling((0,), -2.0, True), Spelling((1, 2), -3.0, False)), True),
    "toward": {"layer": 3, "norm": 2.345, "weights": [0.5, 4.0], "kl": [0.01, 0.2]},
    "neighbours": [Neighbour(2, 0.75), Neighbour(4, 0.5)],
    "rollout": ARRAY([[1.0, 0, 0, 0, 0], [0.5, 0.5, 0, 0, 0]]),
    "sum": WordSum([0], [1], [Neighbour(2, 0.75)], [Neighbour(i, 0.9 - 0.1 * i) for i in range(4)], 0.456),
    "relations": [
        Accuracy("capitals", 3, 0.125, 0.5, (0.25, 0.76)), Accuracy("plurals", 3, 1.0, 0.75, (0.6, 0.9)),
    ],
    "merges": [[b"a", b" b", b"c"], [b"a b", b"c"]],
}  # fmt: skip
GRIDS = ("lens", "heads", "attention", "patch", "rollout")


def form(look: str, **more: Any) -> Grid | Values:
    found = replace(FOUND[look], **more) if more else FOUND[look]
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
    drawn = ElementTree.fromstring(svg(made))
    texts = ["".join(each.itertext()) for each in drawn.iter() if each.tag.endswith("text")]
    cells = [cell.strip() for row in made.texts for cell in row]
    assert all(cell in [text.strip() for text in texts] for cell in cells)
    drawn = svg(Grid("a<b", ["c"] * 4, ["r"], [[-1.0, 0.0, 0.5, 2.0]], [["x"] * 4], cell=3))
    red = [int(part.partition(",")[0]) for part in drawn.split('fill="rgb(')[1:]]  # of ever darker cells
    assert "a&lt;b" in drawn and red[0] == red[1] == 255 > red[2] > red[3]


def test_a_file_is_as_its_ending_says() -> None:
    given = WORDS.vocabulary, WORDS.ids, 0
    assert inside_tables.written(".CSV", *given, "ablate", FOUND["ablate"]) == csv_text(form("ablate"))
    said = inside_tables.written(".json", *given, "ablate", FOUND["ablate"])
    assert said.endswith("}\n") and json.loads(said) == {"ids": [0, 1, 2, 3, 4], "ablation": asdict(FOUND["ablate"])}
    assert json.loads(inside_tables.written(".json", *given[:2], 2, "heads", FOUND["heads"]))["first"] == 2
    drawn = inside_tables.written(".svg", *given, "heads", FOUND["heads"])
    assert drawn == svg(grid("heads")) + "\n"
    for suffix, look, line in (
        (".svg", "ablate", "this is none: take .csv for ablation"), (".png", "heads", "got .png"),
        ("", "heads", "got a name without an ending"),
    ):  # fmt: skip
        with pytest.raises(DataError, match=line):
            inside_tables.written(suffix, *given, look, FOUND[look])


def test_commas_have_every_number() -> None:
    for look in FORMS:
        made, rows = form(look), list(csv.reader(io.StringIO(csv_text(form(look)))))
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
    alone = FORMS["heads"](ARRAY([[[0.0]]]), Words(WORDS.vocabulary, (0,)))
    assert isinstance(alone, Grid) and alone.shares == [[1.0]]
    assert grid("heads").shares == [[1.0, pytest.approx(1 - 2 * BITS / math.log(5))], [0.0, 0.0]]


def test_notes_say_only_what_is_known() -> None:
    assert values("attribution", against=0).title.endswith("the logit of b<c (2) over ·a (0)")
    assert values("attribution", against=0).note == "sum -1.1250 · logit -1.2500"
    assert values("importance", gradient=np.zeros(5)).note == "surprisal 2.1640 bits"
    assert grid("patch", estimates=np.zeros((2, 2))).note == "difference of logits 1.500 clean, -0.500 corrupted"
    heads = grid("patch", part="heads")
    assert heads.columns == ["head 0", "head 1"] and heads.title.endswith("heads brings back, at each layer and head")
    assert values("sum", accuracy=None).note == "with them: ·a 0.900, \\n 0.800, b<c 0.700"
    assert values("spellings", complete=False).note.startswith("all that were scored together 2.4334 bits")
