"""A ladder of trainings on the screen: the law that is found, what a budget buys, its charts, and the files of it."""

from pathlib import Path

import pytest

from tests.laws.test_scaling import ladder
from tests.pictures import assert_picture
from tests.support.screen import Screen


@pytest.fixture
def table(tmp_path: Path) -> Path:
    """A ladder's folder with 30 runs of known seconds, and one that diverged."""
    runs = ladder(5, 6, 0.005)
    rows = [
        f"r{i},{n},{d},{loss},{6 * n * d / 1e15}"
        for i, (n, d, loss) in enumerate(zip(runs.parameters, runs.tokens, runs.loss, strict=True))
    ]
    (tmp_path / "plays").mkdir()
    text = "\n".join(["run,parameters,tokens,loss,seconds", *rows, "wild,1e8,1e10,nan,60"])
    (tmp_path / "plays" / "runs.csv").write_text(text + "\n")
    return tmp_path / "plays"


@pytest.mark.slow
def test_a_ladder_is_seen_and_what_hours_buy_moves_with_arrows(tmp_path: Path, table: Path) -> None:
    with Screen(tmp_path, ladder=table) as screen:
        screen.wait(1)
        for words in ("plays  30 runs · 1e+06 GFLOP/s", "told", "open", "BEST SIZE", "left out: wild", "WHAT 5 H BUYS"):
            assert words in screen.text, words
        assert_picture("screen/pictures/ladder-120x40.txt", screen.text + "\n")
        screen.resize(160, 50)
        wide = ("LOSS", "BEST SIZE", "LAW", "WHAT 5 H BUYS", "BUDGET", "FORETOLD, THEN SEEN")
        assert [words for words in wide if words not in screen.text] == []
        screen.resize(120, 40)
        screen.press("right", "right")
        assert "WHAT 24 H BUYS" in screen.text
        screen.press("left")
        assert "WHAT 24 H BUYS" not in screen.text
        screen.press("r", "v")
        assert "RESIDUALS" in screen.text and "against parameters" in screen.text
        screen.press("e")
        page = next(screen.home.glob("ladder-*.html")).read_text()
        assert page.count("<svg") == 4 and "wild" in page and "1 h 00 min" in page
        screen.resize(60, 20)
        for key, words in (("p", "BEST SIZE"), ("r", "RESIDUALS"), ("b", "LAW"), ("escape", "LOSS")):
            screen.press(key)
            assert words in screen.text, key


def test_without_a_table_the_view_says_in_one_place_how_one_comes(tmp_path: Path) -> None:
    with Screen(tmp_path, size=(120, 40)) as screen:
        screen.say("/ladders")
        rows = [line.partition("▏")[0].strip() for line in screen.lines]
        at = next(y for y, row in enumerate(rows) if row.startswith("no table is open: n opens"))
        assert at < 8 and "likely scale run LADDER.toml" in f"{rows[at]} {rows[at + 1]}"
        assert "Open" in screen.lines[-1] and "Parabolas" not in screen.lines[-1] and "Export" not in screen.lines[-1]


def test_a_table_that_is_none_is_one_line_and_another_is_asked_for(tmp_path: Path) -> None:
    with Screen(tmp_path, ladder=tmp_path / "nothing.csv", size=(80, 24)) as screen:
        assert "No such file or directory" in " ".join(screen.text.split())
        (tmp_path / "bad.csv").write_text("run,parameters\n")
        screen.press("n")
        screen.say("bad.csv")
        assert "bad.csv" in screen.text and screen.running
        screen.type("x")
        assert "bad.csvx" in screen.text  # the field stays, with what is in it
        screen.press("backspace", "escape", "e")
        assert "there is no law here yet" in screen.text
        runs = ladder(5, 6, 0.005)
        rows = zip(runs.parameters, runs.tokens, runs.loss, strict=True)
        (tmp_path / "bad.csv2").write_text("parameters,tokens,loss\n" + "".join(f"{n},{d},{y}\n" for n, d, y in rows))
        screen.press("n", "end", "2", "enter")  # the path stands there to be mended
        screen.wait(1)
        assert "30 runs" in screen.text and "bad.csv2  " in screen.text
