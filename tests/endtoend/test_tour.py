"""docs/tour.md, gone with a tiny model: every function that it names is called, in the order in which it names them.

A token's way is counted too: how many objects are made of its record, or around it, between the draw and the screen;
and an attribution's.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from time import sleep
from types import FrameType
from typing import Any

import pytest

from likely.app import cli
from tests.serve.served import write_model
from tests.support.screen import Screen
from tests.support.shop import TinyShop

ROOT = Path(__file__).parents[2]
PROGRAM = f"{ROOT}/likely/"
TOUR = (ROOT / "docs" / "tour.md").read_text()
LINE = re.compile(r"^\| `([^`]+)` \| `([^`]+)` \|", re.MULTILINE)
WAYS = {way.partition("\n")[0].split()[1].strip(","): LINE.findall(way) for way in TOUR.split("\n## ")[1:]}
MOST_WRAPS = 8
SHOWN = ("app/tui/widgets/transcript/rows.py", "TranscriptRows.extend")  # the end of a token's way


class Journey:
    """The functions of the program in the order of their first calls, and what was made of one record."""

    def __init__(self, record: str = "TokenStep") -> None:
        self.record = record  # its class
        self.called: dict[tuple[str, str], None] = {}
        self.token: tuple[int, int] | None = None  # the first that is drawn: its id and its place
        self.made: list[str] = []
        self._held: dict[int, Any] = {}

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        if event != "call":
            return
        code = frame.f_code
        if code.co_name == "__init__":
            self._made(frame.f_locals)
        if code.co_filename.startswith(PROGRAM):
            self.called.setdefault((code.co_filename.removeprefix(PROGRAM), code.co_qualname))

    def _made(self, values: dict[str, Any]) -> None:
        if SHOWN in self.called:
            return
        made = values.get("self")
        if not type(made).__module__.startswith("likely."):
            return
        kind = type(made).__name__
        if kind == self.record == "TokenStep":
            place = (values["token"], values["position"])
            if values["origin"] != "drawn" or self.token not in (None, place):
                return
            self.token = place
        elif kind != self.record:
            given = [value for name, value in values.items() if name != "self"]
            several = [each for value in given if isinstance(value, list | tuple) for each in value]
            if not any(id(value) in self._held for value in (*given, *several)):
                return
        whole = kind == self.record
        self._held |= {
            id(value): value for value in values.values() if value is made or (whole and hasattr(value, "shape"))
        }
        self.made.append(kind)


@contextmanager
def followed(record: str = "TokenStep") -> Iterator[Journey]:
    journey = Journey(record)
    sys.setprofile(journey)
    try:
        yield journey
    finally:
        sys.setprofile(None)


def goes(journey: Journey, way: Sequence[tuple[str, str]]) -> None:
    places = {place: number for number, place in enumerate(journey.called)}
    assert [place for place in way if place not in places] == []
    assert sorted(way, key=places.__getitem__) == list(way)


def test_a_token_from_the_key_to_the_pixel(tmp_path: Path) -> None:
    with Screen(tmp_path, shop=TinyShop(write_model(tmp_path / "tiny"))) as screen:
        screen.type("ab")
        screen.hold(after=2)
        with followed() as journey:
            screen.press("enter")
            while SHOWN not in journey.called:  # a template is rendered in a thread of its own
                sleep(0.01)
                screen.wait()
    goes(journey, WAYS["token"])
    made = [*journey.made, "ShownToken"]  # which has the record's figures, and not itself
    assert made[0] == "TokenStep" and made[-2] == "Emitted" and len(made) <= MOST_WRAPS, made


@pytest.mark.slow(1)
def test_an_attribution_is_drawn_and_printed_as_it_was_found(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is made of it or around it, on the way to the page nor to JSON."""
    model = write_model(tmp_path / "tiny")
    with Screen(tmp_path, shop=TinyShop(model)) as screen, followed("Attribution") as journey:
        screen.press("f6", "n")
        screen.say("abba")
        screen.press("c")
        assert "Σ" in screen.text
    assert journey.made == ["Attribution"]
    monkeypatch.setattr(sys, "argv", ["likely", "inside", "-M", str(model), "abba", "--attribution", "--json"])
    with followed("Attribution") as journey, pytest.raises(SystemExit):
        cli.main()
    assert journey.made == ["Attribution"] and '"sum": ' in capsys.readouterr().out


@pytest.mark.parametrize(
    ("way", "row", "arguments"),
    [
        pytest.param(
            "row",
            '{{"prompt": "ab{0}", "completion": " so on {0}"}}\n',
            ("tune", "in.jsonl", "--steps", "2", "--out", "o"),
            marks=pytest.mark.slow,
        ),
        ("item", '{{"good": "ab so {0}", "bad": "ba os {0}"}}\n', ("eval", "in.jsonl")),
    ],
)
def test_a_row_to_an_adapter_and_an_item_to_a_figure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, way: str, row: str, arguments: tuple[str, ...]
) -> None:
    write_model(tmp_path / "tiny")
    (tmp_path / "in.jsonl").write_text("".join(row.format(number) for number in range(40)))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("LIKELY_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(sys, "argv", ["likely", *arguments, "-M", "./tiny"])
    with followed() as journey, pytest.raises(SystemExit) as end:
        cli.main()
    assert end.value.code == 0
    goes(journey, WAYS[way])
