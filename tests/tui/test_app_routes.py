"""The program's last words: how to come back, what was lost, and a training that is waited for."""

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar
from unittest.mock import patch

import pytest

import likely.app.tui as tui
from likely.app.tui.base.formula import Formula, low, path


def test_formulas_in_ink() -> None:
    assert Formula("model", (("p = ", False), ("0.5", True))).words() == [("p = ", "text"), ("0.5", "chosen")]
    assert path("model", whole=False) == [("model", "model")]
    assert path("model", whole=True) == [
        ("tokenizer", "cut"), (" → ", "cut"), ("model", "model"), (" → ", "cut"), ("decoder", "cut"), (" → ", "cut"),
        ("metric", "cut"),
    ]  # fmt: skip
    assert low(1234567890) == "₁₂₃₄₅₆₇₈₉₀"


# -- the program -------------------------------------------------------------------------------------------------------


class Ended:
    """An application that has ended."""

    made: ClassVar[dict[str, Any]] = {}
    facts: ClassVar[dict[str, Any]] = {}

    def __init__(self, provider: Any, home: Any, **options: Any) -> None:
        Ended.made = {"home": home, **options}
        self.keeper, self.training, self.return_code = None, None, 0
        self.__dict__.update(Ended.facts)

    def run(self) -> str:
        return str(Ended.facts.get("left", ""))


def ended(**facts: Any) -> None:
    Ended.facts = facts


def test_the_program_says_how_to_come_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    keeper = SimpleNamespace(unsaved=(), trouble="the disk is full")
    with patch("likely.app.tui.app.LikelyApp", Ended), patch("likely.app.tui.data_home", lambda: tmp_path / "default"):
        ended(left="c1", keeper=keeper)
        assert tui.run("m", "c0", tmp_path, [("dir", 1.0)]) == 0
        assert capsys.readouterr().out == "likely chat --resume c1\n"
        assert (Ended.made["home"], Ended.made["model"], Ended.made["resume"]) == (tmp_path, "m", "c0")
        assert Ended.made["adapters"] == [("dir", 1.0)]
        ended(return_code=3)
        assert tui.run() == 3 and not any(capsys.readouterr())
        assert (Ended.made["home"], Ended.made["model"], Ended.made["resume"]) == (tmp_path / "default", "", "")
        keeper.unsaved = (1,)
        for code, wanted in ((0, 1), (4, 4)):
            ended(left="c1", keeper=keeper, return_code=code)
            assert tui.run() == wanted
        assert capsys.readouterr().err == "likely: the disk is full: what was said is lost\n" * 2
        ended(return_code=2)
        assert tui.ladder(tmp_path / "t.csv", tmp_path) == 2 and Ended.made["ladder"] == tmp_path / "t.csv"
        assert tui.watch("server", tmp_path) == 2 and Ended.made["server"] == "server"  # type: ignore[arg-type]
        ended()
        assert tui.ladder(tmp_path) == 0 == tui.watch("s") and Ended.made["home"] == tmp_path / "default"  # type: ignore[arg-type]


def test_a_training_under_way_is_waited_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    log: list[str] = []

    def training(busy: bool, quick: bool) -> Any:
        waits = lambda seconds=None: log.append(f"wait {seconds}") or quick  # type: ignore[func-returns-value]  # noqa: E731
        ends = lambda: (130, ["saved in x"])  # noqa: E731
        return SimpleNamespace(drain=lambda: log.append("drain"), busy=busy, wait=waits, parting=ends)

    kind = SimpleNamespace(model=lambda config: "base")
    with patch("likely.app.tui.app.LikelyApp", Ended), patch("likely.app.training_kind.kind_of", lambda config: kind):
        finishing = "finishing the step, then saving…\n"
        cases = (
            (False, False, [], ""),
            (True, True, ["wait 0.3"], ""),
            (True, False, ["wait 0.3", "wait None"], finishing),
        )
        for busy, quick, waited, said in cases:
            log.clear()
            ended(training=training(busy, quick))
            assert tui.tune("config", True, tmp_path) == 130  # type: ignore[arg-type]
            assert log == ["drain", *waited] and capsys.readouterr().err == f"{said}saved in x\n"
        assert Ended.made["tune"] == ("config", True) and Ended.made["model"] == "base"
        keeper = SimpleNamespace(unsaved=(1,), trouble="the disk is full")
        ways: tuple[Callable[[], int], ...] = (
            tui.run, lambda: tui.tune("config"), lambda: tui.ladder(tmp_path), lambda: tui.watch("s"),  # type: ignore[arg-type]
        )  # fmt: skip
        for way in ways:  # whatever was opened first, both may have been begun from there
            log.clear()
            ended(training=training(False, False), keeper=keeper)
            assert way() == 130 and log == ["drain"]
            assert capsys.readouterr().err == "saved in x\nlikely: the disk is full: what was said is lost\n"
        ended(return_code=5)
        assert tui.tune("config") == 5 and Ended.made["tune"] == ("config", False)  # type: ignore[arg-type]
