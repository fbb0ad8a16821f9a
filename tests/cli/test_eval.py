"""`likely eval` as a person and a program call it, on tables of known probabilities and a random transformer."""

import json
import math
import signal
import sqlite3
import time
import xml.dom.minidom
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from likely.app.words.heat import CONTROL
from likely.engine.base.statistics.measures import measure
from likely.engine.decode.session import Session
from likely.engine.measure.evaluate.tasks.variations import Variation, order
from likely.engine.weights.sources.checkpoint import load
from tests.cli.conftest import Ended, Likely
from tests.engine import tiny
from tests.engine.test_native import CONFIG, needs_rounding
from tests.support import bigram
from tests.support.bigram import EOS, VOCAB, certain_table, ids, logprob, random_table


@pytest.fixture
def tables() -> dict[str, np.ndarray]:
    """The laws of models, by their names; the first is the one that is used where none is named."""
    return {"fake": random_table(0), "one": random_table(0), "two": random_table(1), "xyz": certain_table(":xyz")}


@pytest.fixture(name="likely")
def evaluates(tables: dict[str, np.ndarray], likely: Likely, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Likely:
    models = tmp_path / "models"
    monkeypatch.setenv("LIKELY_MODELS", str(models))
    monkeypatch.setenv("LIKELY_MODEL", "fake")

    def run(*words: object) -> Ended:
        for name, table in tables.items():
            if not (models / name).exists():
                bigram.write(models / name, table)
        return likely("eval", *words)

    return run


def figures(out: str) -> dict[str, dict[str, Any]]:
    rows = list(map(json.loads, out.splitlines()))
    assert all(measure(row["measure"]).of for row in rows), "each is in the table of measures"
    return {row["measure"]: row for row in rows}


def lines(ended: Ended) -> list[Any]:
    """The objects of a call that ended well."""
    assert ended.code == 0, ended.err
    return [json.loads(line) for line in ended.out.splitlines()]


def write(path: Path, rows: list[Any]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_pairs_by_the_whole_texts_probability(likely: Likely, tables: dict[str, np.ndarray], tmp_path: Path) -> None:
    rows = [{"good": f"{chr(48 + i)}at", "bad": f"at{chr(48 + i)}"} for i in range(40)]
    path = write(tmp_path / "pairs.jsonl", rows)
    items = lines(likely(path, "--json", "--items"))
    assert [item["item"] for item in items] == list(range(40))
    right = 0
    for row, item in zip(rows, items, strict=True):
        exact = [logprob(tables["fake"], row["good"]), logprob(tables["fake"], row["bad"])]
        assert item["loglikelihoods"] == pytest.approx(exact, abs=2e-5)
        right += exact[0] > exact[1]
    (row,) = lines(likely(path, "--json"))
    assert list(row) == ["task", "model", "measure", "value", "se", "low", "high", "n", "protocol", "units"]
    assert (row["task"], row["model"], row["measure"], row["n"]) == ("pairs", "fake", "acc", 40)
    assert 0 < right < 40 and row["value"] == right / 40 and row["low"] < row["value"] < row["high"]
    assert row["protocol"]["prefix_token"] == EOS


def test_perplexity_of_a_file_by_rolling_windows(likely: Likely, tables: dict[str, np.ndarray], tmp_path: Path) -> None:
    path = tmp_path / "book.txt"
    text = "Ein schöner Tag. " * 40
    path.write_text(text)
    size = len(text.encode())
    nats = -logprob(tables["fake"], text)
    found = figures(likely("--text", path, "--window", "64", "--json")[1])
    assert list(found) == ["nats", "tokens", "bytes", "perplexity", "bits_per_byte"]
    assert found["tokens"]["value"] == found["bytes"]["value"] == size
    assert found["nats"]["value"] == pytest.approx(nats, rel=1e-6)
    assert found["perplexity"]["value"] == pytest.approx(math.exp(nats / size), rel=1e-5)
    assert found["bits_per_byte"]["value"] == pytest.approx(nats / size / math.log(2), rel=1e-5)
    assert found["perplexity"]["low"] < found["perplexity"]["value"] < found["perplexity"]["high"]
    assert found["nats"]["protocol"]["window"] == 64 and found["nats"]["n"] == -(-size // 64)
    assert likely("--text", path, "--window", "9999")[0] == 1  # which is no result, and hides none
    assert figures(likely("--compare", "--json")[1])["nats"]["value"] == found["nats"]["value"]
    none = figures(likely("--text", path, "--window", "64", "--prefix-token", "none", "--json")[1])
    assert none["tokens"]["value"] == size - 1 and none["bytes"]["value"] == size
    assert none["nats"]["value"] == pytest.approx(-logprob(tables["fake"], text[1:], ids("E")[0]), rel=1e-6)
    other = figures(likely("--text", path, "--prefix-token", "7", "--json")[1])
    assert other["nats"]["value"] == pytest.approx(-logprob(tables["fake"], text, 7), rel=1e-6)
    assert other["nats"]["protocol"]["prefix_token"] == 7
    chat = figures(likely("--text", path, "--chat", "--json")[1])
    assert chat["tokens"]["value"] > size and chat["nats"]["protocol"]["chat"] is True


def test_sliding_windows_and_the_figures_of_parts(
    likely: Likely, tables: dict[str, np.ndarray], tmp_path: Path
) -> None:
    """A model that looks one token back gives every token the same however windows lie; parts add up to the whole."""
    path = tmp_path / "book.txt"
    path.write_text("Ein Tag. " * 30)
    whole, parted = (
        {row["measure"]: row for row in lines(likely("--text", path, "--window", "32", "--json", *more))}
        for more in ((), ("--stride", "8", "--positions"))
    )
    assert parted["nats"]["value"] == pytest.approx(whole["nats"]["value"], rel=1e-6)
    assert parted["nats"]["n"] == 1 + math.ceil((270 - 32) / 8) and parted["nats"]["protocol"]["stride"] == 8
    spots = {name: row for name, row in parted.items() if "position=" in name}
    assert list(spots) == [f"perplexity position={at}" for at in ("1", "2-3", "4-7", "8-15", "16-31", "32-63")]
    assert spots["perplexity position=1"]["value"] == pytest.approx(math.exp(-logprob(tables["fake"], "E")), rel=1e-5)
    rows = [{"text": f"{word} {i}", "source": word} for i in range(12) for word in ("wiki", "code")]
    task = write(tmp_path / "texts.jsonl", rows)
    out = lines(likely(task, "--by", "source", "--json", "--measure", "bits_per_byte"))
    assert [row["measure"] for row in out] == [f"bits_per_byte{of}" for of in ("", " source=code", " source=wiki")]
    exact = sum(-logprob(tables["fake"], row["text"]) for row in rows if row["source"] == "wiki")
    size = sum(len(row["text"]) for row in rows if row["source"] == "wiki")
    assert out[2]["value"] == pytest.approx(exact / size / math.log(2), rel=1e-5) and out[2]["n"] == 12
    assert likely("--compare", "--by", "source", "--json")[1].count("source=wiki") == 2
    assert "there is no column 'where' in text, source" in likely(task, "--by", "where")[2]


def test_answers_are_drawn_and_judged(likely: Likely, tmp_path: Path) -> None:
    asked = {"say:": "xyz", "and say:": "XYZ!", ":": "y"}
    path = write(tmp_path / "q.jsonl", [{"prompt": prompt, "answer": answer} for prompt, answer in asked.items()])
    found = figures(likely(path, "-M", "xyz", "--json").out)
    assert found["exact"]["value"] == pytest.approx(1 / 3)
    assert found["normalised"]["value"] == pytest.approx(2 / 3)
    items = lines(likely(path, "-M", "xyz", "--json", "--items"))
    assert [item["answers"] for item in items] == [["xyz"]] * 3 and items[0]["finish"] == ["eot"]
    code, _, err = likely(path, "-M", "xyz", "--strategy", "budget 5")  # which the tokenizer has to know of
    assert code == 1 and "this model does not think" in err
    several = figures(likely(path, "-M", "xyz", "--samples", "3", "--temp", "0.5", "--json")[1])
    assert {"exact", "exact pass@2", "exact pass@3", "exact maj@3"} <= set(several)
    assert likely(path, "-M", "xyz", "--samples", "3")[0] == 1


@pytest.mark.slow(2)
@pytest.mark.parametrize("search", ["beam 4", "exact 50", "gnmt 3"])
def test_a_search_answers_with_its_best(
    likely: Likely, tables: dict[str, np.ndarray], tmp_path: Path, search: str
) -> None:
    """The likeliest of all texts (y .4) is right, those behind it (x .24, xx .14) are not: the score is the first's."""
    table = np.full((VOCAB, VOCAB), -20.0)
    for before, after, p in ((":", "x", 0.6), (":", "y", 0.4), ("x", EOS, 0.4), ("x", "x", 0.6), ("y", EOS, 1.0)):
        table[ids(before)[0], after if isinstance(after, int) else ids(after)[0]] = math.log(p)
    tables["three"] = table
    path = write(tmp_path / "q.jsonl", [{"prompt": "say:", "answer": "y"}, {"prompt": ":", "answer": "x"}])
    found = figures(likely(path, "-M", "three", "--strategy", search, "--json")[1])
    assert set(found) == {"exact", "normalised"} and found["exact"]["value"] == 0.5
    assert found["exact"]["protocol"]["strategy"].startswith(search)
    assert "best" in found["exact"]["protocol"]["answers"]
    items = lines(likely(path, "-M", "three", "--strategy", search, "--json", "--items"))
    assert [item["answers"] for item in items] == [["y"], ["y"]]
    code, _, err = likely(path, "-M", "three", "--strategy", search, "--samples", "3", "--temp", "1")
    assert code == 1 and "is a search" in err and "--samples" in err


def test_texts_that_have_no_best_are_no_answer(likely: Likely, tmp_path: Path) -> None:
    path = write(tmp_path / "q.jsonl", [{"prompt": "say:", "answer": "y"}])
    code, out, err = likely(path, "-M", "one", "--strategy", "stochastic 4")
    assert (code, out) == (1, "") and "does not order its answers" in err


@pytest.mark.slow
def test_a_report_is_one_file_that_needs_no_network(likely: Likely, tmp_path: Path) -> None:
    rows = [{"context": f"Q{i}:", "choices": [chr(60 + i), chr(70 + i), "<"], "gold": i % 2} for i in range(40)]
    path, report = write(tmp_path / "a<b\x1b]52;c;QQ==\x07.jsonl", rows), tmp_path / "out.html"
    assert likely(path, "-M", "one", "-M", "two", "--report", report)[0] == 0
    page = report.read_text()
    assert "]52;c;QQ==" in page and not CONTROL.search(page)
    assert page.count("<svg") >= 12 and page.count("<figcaption>") == 2 and "Items on which they differ" in page
    assert "a&lt;b" in page and "a<b" not in page and "-M one -M two" in page
    assert "http" not in page and "src=" not in page and "<script" not in page
    assert any(f"<b class='{word}'>" in page for word in ("better", "worse", "not"))
    elements = xml.dom.minidom.parseString(page[page.index("<svg") : page.index("</svg>") + 6])
    assert elements.getElementsByTagName("circle")
    likely("--compare", "--report", report)
    assert report.read_text().count("<svg") == page.count("<svg")
    assert likely("--compare", "--report", tmp_path / "none" / "out.html")[0] == 1


def test_a_text_that_ships_with_python_is_a_task(likely: Likely, tables: dict[str, np.ndarray]) -> None:
    from pydoc_data.topics import topics

    first = min(topics)
    found = figures(likely("python-reference", "--limit", "1", "--by", "topic", "--json")[1])
    assert found["nats"]["value"] == pytest.approx(-logprob(tables["fake"], topics[first]), rel=1e-5)
    assert found["bytes"]["value"] == len(topics[first].encode()) and f"perplexity topic={first}" in found


def test_built_in_tasks_have_names(likely: Likely) -> None:
    rows = lines(likely("lookup:items=3,shots=0", "markov:items=2,size=20", "--json"))
    assert {row["task"] for row in rows} == {"lookup:items=3,shots=0", "markov:items=2,size=20"}
    assert {row["measure"]: row["n"] for row in rows}["numeric"] == 3
    (nats,) = [row for row in rows if row["measure"] == "nats"]
    assert nats["protocol"]["entropy"] == pytest.approx((math.log(8) + 19 * 1.75 * math.log(2)) / 20)
    assert (
        "there is no task sums: give a file (.jsonl, .json, .csv, .parquet, .toml), or arithmetic, "
        in likely("sums")[2]
    )


def test_two_models_are_compared_item_by_item(likely: Likely, tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.jsonl", [{"good": f"a{i}", "bad": f"b{i}"} for i in range(60)])
    code, out, _ = likely(path, "-M", "one", "-M", "two")
    assert code == 0 and "pairs acc: two against one" in out
    assert any(verdict in out for verdict in (": better", ": worse", ": not seen"))
    assert likely(path, "-M", "one", "-M", "two", "-A", "folder")[0] == 2
    rows = lines(likely("--compare", "--json"))
    assert {row.get("model") for row in rows if "value" in row} == {"one", "two"}
    (change,) = [row for row in rows if "verdict" in row]
    named = json.loads(likely("--compare", "--json", "--difference", "0.01")[1].splitlines()[-1])
    spread = change["se"] * math.sqrt(60)
    assert named["needed_for"] == 0.01 and named["needed"] == math.ceil((1.959964 + 0.841621) ** 2 * spread**2 / 1e-4)
    assert "to see 0.01 four times in five: " in likely("--compare", "--difference", "0.01")[1]
    assert change["n"] == 60 and change["low"] <= change["difference"] <= change["high"]
    assert likely("--compare", "nothing")[0] == 1


@pytest.mark.slow(1)
@needs_rounding
def test_figures_of_rounded_activations_are_not_those_of_exact_ones(likely: Likely, tmp_path: Path) -> None:
    """Each against the sum of its own model's surprisals; neither is taken for the other, and both are compared."""
    four = tiny.write_gguf(tmp_path / "four.gguf", "llama", CONFIG, tiny.weights(CONFIG), "Q4_1")
    (tmp_path / "t.txt").write_text("ab ab ba " * 9)
    for words, bits in (((), None), (("--activation-bits", "8"), 8)):
        ended = likely("--text", tmp_path / "t.txt", "-M", four, *words, "--json")
        session = Session(load(four, activation_bits=bits))
        found = figures(ended.out)["nats"]
        scored = session.score([found["protocol"]["prefix_token"], *session.tokenizer.encode("ab ab ba " * 9)])[1:]
        assert found["value"] == pytest.approx(-sum(step.logprob for step in scored), rel=1e-6)
    names = {row.get("model") for row in lines(likely("--compare", "--json")) if row.get("measure") == "nats"}
    assert names >= {str(four), f"{four} + 8-bit activations"}


def test_what_was_stopped_goes_on_where_it_was(likely: Likely, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    path = write(tmp_path / "pairs.jsonl", [{"good": f"a{i}", "bad": f"b{i}"} for i in range(300)])
    call = (path, "-M", "one", "--json")
    whole = likely(*call, "--fresh")
    asked, clock = count(), time.monotonic

    def rings() -> float:
        """A clock at whose fortieth look somebody presses ctrl+c."""
        if next(asked) == 40:
            signal.raise_signal(signal.SIGINT)
        return clock()

    with monkeypatch.context() as patch:
        patch.setattr(time, "monotonic", rings)
        code, out, err = likely(*call, "--fresh")
    kept = json.loads(out)["n"]
    assert code == 130 and 0 < kept < 300 and "goes on from there" in err
    assert f"{kept} items are known from before" in likely(*call[:3]).err
    assert likely(*call) == whole and "300 items are known" in likely(*call[:3]).err
    assert json.loads(likely(*call, "--limit", "10").out)["n"] == 10
    path.write_text(path.read_text().replace("a0", "A0"))
    assert "known" not in likely(*call[:3]).err  # another file is another task


def test_a_disk_that_keeps_nothing_costs_no_answer(
    likely: Likely, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Refused at once, in the middle, and a file that is no database; what it held before is gone on from."""
    path = write(tmp_path / "pairs.jsonl", [{"good": f"a{i}", "bad": f"b{i}"} for i in range(300)])
    code, whole, _ = likely(path, "--limit", "40", "--json")
    home, plain = tmp_path / "home", sqlite3.connect

    def filling(place: Any, *args: Any, **more: Any) -> sqlite3.Connection:
        db = plain(place, *args, **more)
        if place != ":memory:":
            pages = db.execute("PRAGMA page_count").fetchone()[0]
            db.execute(f"PRAGMA max_page_count = {pages}")
        return db

    with monkeypatch.context() as full:
        full.setattr(sqlite3, "connect", filling)
        code, out, err = likely(path, "--json")
        assert code == 0 and json.loads(out)["n"] == 300
        assert err.count("results are not kept") == 1 and "(database or disk is full)" in err
    assert json.loads(likely("--compare", "--json")[1])["n"] == 40  # as it was
    (home / "evaluations.db").write_bytes(b"no database at all" * 400)
    code, out, err = likely(path, "--limit", "40", "--json")
    assert (code, out) == (0, whole) and "(file is not a database)" in err
    assert "nothing was measured yet" in likely("--compare")[2]
    monkeypatch.setenv("LIKELY_HOME", str(path))
    code, out, err = likely(path, "--limit", "40", "--json")
    assert (code, out) == (0, whole) and err.count("results are not kept") == 1


def test_odd_items_are_counted(likely: Likely, tables: dict[str, np.ndarray], tmp_path: Path) -> None:
    pairs = ("a", "b"), ("a", "b"), ("c", "c"), ("x" * 5000, "y")
    rows = [*({"good": good, "bad": bad} for good, bad in pairs), {"good": "only"}]
    path = write(tmp_path / "pairs.jsonl", rows)
    code, _, err = likely(path)
    assert code == 0 and "1 duplicate (scored), row 2" in err and "1 unanswerable (left out), row 3: good" in err
    assert "1 unanswerable (left out), row 5: lacks bad, which the first row has" in err
    assert "1 too long (left out), row 4: has 5001 tokens, the model reads at most 4096" in err
    row = json.loads(likely(path, "--json")[1])
    assert row["n"] == 2
    assert row["protocol"]["rows"] == {"left out": {"too long": 1, "unanswerable": 2}, "scored": {"duplicate": 1}}


@pytest.mark.slow
def test_items_of_a_cluster_and_examples_by_an_option(likely: Likely, tmp_path: Path) -> None:
    rows = [{"context": f"Q{i // 5}:", "choices": ["<", "b"], "gold": i // 5 % 2, "of": i // 5} for i in range(60)]
    path = write(tmp_path / "t.jsonl", rows)
    plain, named = (figures(likely(path, "--json", *more)[1])["acc"] for more in ((), ("--cluster", "of")))
    assert named["value"] == plain["value"] and named["se"] > 2 * plain["se"]
    assert named["high"] - named["low"] > 1.8 * (plain["high"] - plain["low"]) and named["protocol"]["cluster"] == "of"
    shot = figures(likely(path, "--json", "--shots", "2")[1])["acc"]
    assert shot["n"] == 58 and shot["protocol"]["shots"] == 2
    assert shot["protocol"]["rows"]["left out"] == {"example": 2}
    assert "there is no column 'uid' in context" in likely(path, "--cluster", "uid")[2]


def test_wrong_calls_are_one_line(likely: Likely, tmp_path: Path) -> None:
    assert likely()[0] == 2 and likely("none.jsonl")[0] == 1
    path = write(tmp_path / "p.jsonl", [{"good": "a", "bad": "b"}])
    assert likely(path, "--items")[0] == 2
    assert "p has no measure x: it has acc" in likely(path, "--measure", "x")[2]
    assert "two tasks are called p" in likely(path, path)[2]
    (tmp_path / "empty.txt").write_text("")
    assert "is empty" in likely("--text", tmp_path / "empty.txt")[2]
    assert "--stride is at most the window, 512 tokens, got 600" in likely("--text", path, "--stride", "600")[2]
    assert "give --window 4096" in likely("--text", path, "--window", "5000")[2]
    code, _, err = likely("--text", path, "--prefix-token", "x")
    assert code == 1 and "must be none or an id below 288, got 'x'" in err


@pytest.mark.slow
def test_a_temperature_is_fitted_on_other_items_than_those_that_are_reported(likely: Likely, tmp_path: Path) -> None:
    rows = [{"context": f"Q{i}:", "choices": ["a", "no", "maybe"], "gold": i % 3} for i in range(90)]
    task, held = write(tmp_path / "task.jsonl", rows[:60]), write(tmp_path / "held.jsonl", rows[60:])
    found = figures(likely(task, "--calibrate-on", held, "--json")[1])
    said = found["nll_scaled"]["protocol"]
    assert said["fitted_on"] == "held" and said["temperature"] > 1  # the model is as wrong as it is sure
    beside = figures(likely(task, "--calibrate-on", held, "--vary", "typos", "--variants", "1", "--json")[1])
    assert beside["nll_scaled"] == found["nll_scaled"]
    assert found["nll_scaled"]["value"] < found["nll"]["value"] and found["ece_scaled"]["value"] < found["ece"]["value"]
    assert {"ece_adaptive", "rmsce_debiased", "ece_adaptive_scaled", "brier_score_scaled"} <= set(found)
    items = lines(likely(task, "--json", "--items"))
    logs = [np.array(item["loglikelihoods"]) / said["temperature"] for item in items]
    exact = np.mean([np.logaddexp.reduce(z) - z[item["gold"]] for z, item in zip(logs, items, strict=True)])
    assert found["nll_scaled"]["value"] == pytest.approx(exact)
    pairs = write(tmp_path / "pairs.jsonl", [{"good": "a", "bad": "b"}])
    assert likely(task, "--calibrate-on", task)[0] == 2 and likely(task, "--calibrate-on", pairs)[0] == 2


@pytest.mark.slow
def test_texts_are_set_against_texts(likely: Likely, tmp_path: Path) -> None:
    random = np.random.default_rng(0)

    def drawn(low: int) -> list[dict[str, str]]:
        return [{"text": " ".join(f"w{k}" for k in random.integers(low, low + 30, 20))} for _ in range(40)]

    made, real, near = (write(tmp_path / f"{n}.jsonl", drawn(k)) for n, k in (("made", 20), ("real", 0), ("near", 0)))
    far, close = (figures(likely("--generated", x, "--reference", real, "--json")[1]) for x in (made, near))
    assert far["mmd2"]["value"] > 5 * abs(close["mmd2"]["value"]) and far["mmd2_p"]["value"] < 0.01
    assert close["mmd2_p"]["value"] > 0.01 and far["mauve"]["value"] < close["mauve"]["value"]
    assert {"precision", "coverage", "vendi", "distinct_2", "self_bleu", "novelty_4"} <= set(far)
    known = figures(likely("--generated", made, "--reference", real, "--training", made, "--json")[1])
    assert known["novelty_4"]["value"] == 0 and far["novelty_4"]["value"] == 1
    assert "distinct_1" in likely("--generated", made, "--reference", real)[1]
    assert "has no measure x: it has mmd2" in likely("--generated", made, "--reference", real, "--measure", "x")[2]
    assert likely("--generated", made)[0] == 2 and likely(made, "--generated", made, "--reference", real)[0] == 2
    few, odd = write(tmp_path / "few.jsonl", drawn(0)[:3]), write(tmp_path / "odd.jsonl", [{"a": 1}])
    assert "10 texts of each kind" in likely("--generated", few, "--reference", real)[2]
    assert "row 1: expected a text" in likely("--generated", odd, "--reference", real)[2]


def test_items_that_the_training_texts_hold_are_counted(likely: Likely, tmp_path: Path) -> None:
    rows = [{"text": " ".join(f"w{i * 20 + k}" for k in range(20))} for i in range(30)]
    path = write(tmp_path / "t.jsonl", rows)
    seen = write(tmp_path / "training.jsonl", rows[:10])
    found = figures(likely(path, "--training", seen, "--json")[1])
    assert found["contaminated"]["value"] == pytest.approx(1 / 3) and found["bits_per_byte_clean"]["n"] == 20
    assert found["min_20_auc"]["protocol"]["training"] == str(seen)
    assert likely("--compare", "--training", seen)[0] == 2


def test_a_known_law_is_summed_over_all_that_it_allows(
    likely: Likely, tables: dict[str, np.ndarray], tmp_path: Path
) -> None:
    """KL in nats, by hand from the table; a model that is the law is 0 from it; laws that are none are left out."""
    laws = [{"ad": 0.5, "b": 0.25, "c": 0.25}, {"x": 1.0}, {"a": 0.5, "ad": 0.5}, {"a": 0.4}, {"a": 1.5, "b": -0.5}, {}]
    path = write(tmp_path / "laws.jsonl", [{"context": f"Q{i}", "law": law} for i, law in enumerate(laws)])
    items = lines(likely(path, "--json", "--items"))
    assert [item["item"] for item in items] == [0, 1]
    for item, law in zip(items, laws, strict=False):
        before = ids(str(item["item"]))[0]
        said = {text: logprob(tables["fake"], text, before) for text in law}
        assert item["kl"] == pytest.approx(sum(p * (math.log(p) - said[t]) for t, p in law.items()), abs=1e-4)
        assert item["mass"] == pytest.approx(sum(map(math.exp, said.values())), rel=1e-4)
    err = likely(path)[2]
    assert "1 unanswerable (left out), row 3: 'a' begins another text of the law" in err
    assert "1 unanswerable (left out), row 4: a law's probabilities must sum to 1, got 0.4" in err
    assert "1 unanswerable (left out), row 5: each probability of a law must be above 0 and at most 1" in err
    assert "1 empty (left out), row 6" in err
    found = figures(likely(path, "--json")[1])
    assert list(found) == ["kl", "mass"] and found["kl"]["n"] == 2


def test_a_context_that_is_written_otherwise_before_a_choice_is_said(likely: Likely, tmp_path: Path) -> None:
    """ "ab" is one token."""
    rows = [{"context": context, "choices": ["bz", "z"], "gold": 0} for context in ("Yes or no", "Maya")]
    (tmp_path / "t.toml").write_text('data = "rows.jsonl"\ndelimiter = ""')
    write(tmp_path / "rows.jsonl", rows)
    code, _, err = likely(tmp_path / "t.toml")
    assert code == 0 and "1 boundary (scored), row 2: the context's tokens are others where a choice follows" in err


def test_earlier_results_are_of_the_models_and_tasks_that_are_asked_for(likely: Likely, tmp_path: Path) -> None:
    pairs = write(tmp_path / "pairs.jsonl", [{"good": f"a{i}", "bad": f"b{i}", "of": "it"} for i in range(6)])
    texts = write(tmp_path / "texts.jsonl", [{"text": f"text {i}"} for i in range(6)])
    likely(pairs, texts, "-M", "one", "-M", "two")
    for words, found in (
        (("-M", "two", "-M", "one"), [("pairs", "two"), ("pairs", "one"), ("texts", "two"), ("texts", "one")]),
        ((texts, "-M", "one"), [("texts", "one")]),
        (("texts", pairs, "-M", "one"), [("pairs", "one"), ("texts", "one")]),
    ):  # fmt: skip
        rows = lines(likely("--compare", *words, "--json"))
        assert list(dict.fromkeys((row["task"], row["model"]) for row in rows if "value" in row)) == found
    pairs.unlink()
    said = likely("--compare", "pairs", "--by", "of").err
    assert "pairs is not where it was when it was measured: --by reads its rows again" in said


def test_pairs_are_judged_by_a_named_model_both_ways_round(likely: Likely, tmp_path: Path) -> None:
    rows = [{"prompt": f"q{i}", "answer_a": "x", "answer_b": "y", "preferred": "tie"} for i in range(12)]
    found = figures(likely(write(tmp_path / "pairs.jsonl", rows), "-M", "one", "--json")[1])
    names = ["win_rate", "win_probability", "first_position", "consistent", "ties", "unclear", "agreement"]
    assert list(found) == names and found["win_rate"]["model"] == "one"
    said = found["win_rate"]["protocol"]
    assert "{first}" in said["judge"] and said["form"] == "judged"
    # a table that goes by the last letter sees ":" alone: the two orders are one, and no verdict is likely
    assert found["unclear"]["value"] == 1 == found["agreement"]["value"]
    assert found["win_rate"]["value"] == 0.5 and found["win_rate"]["low"] < 0.3 and found["win_rate"]["high"] > 0.7


def test_stand_ins_say_what_they_are_and_are_not(likely: Likely, tables: dict[str, np.ndarray], tmp_path: Path) -> None:
    texts = [{"text": f"One two three {i}. Four five six seven {i}."} for i in range(20)]
    path = write(tmp_path / "texts.jsonl", [*texts, {"text": "short"}])
    code, out, err = likely(f"coherence:{path}", f"fluency:{path}")
    assert code == 0 and "coherence:texts: how much less surprising" in out and "not whether the one follows" in out
    assert "1 unanswerable (left out), row 21: it has fewer than 8 words" in err
    found = figures(likely(f"coherence:{path}", "--json")[1])
    table = tables["fake"]
    gain = logprob(table, " ", ids(".")[0]) - logprob(table, " ")  # the only byte that knows what is before it
    assert found["pmi"]["value"] == pytest.approx(gain / math.log(2), abs=1e-4)
    assert found["own_context"]["value"] == 0.5
    assert found["pmi"]["protocol"]["about"].startswith("how much less surprising")
    pairs = write(tmp_path / "pairs.jsonl", [{"good": "a", "bad": "b"}])
    assert "coherence is made of rows with text: pairs has good, bad" in likely(f"coherence:{pairs}")[2]
    assert "there is no file" in likely(f"coherence:{tmp_path / 'none.jsonl'}")[2]


@pytest.mark.slow
def test_scores_and_distributions_under_variations(
    likely: Likely, tables: dict[str, np.ndarray], tmp_path: Path
) -> None:
    rows = [{"context": f"Item {i} is", "choices": ["a", "no", "maybe"], "gold": i % 3} for i in range(24)]
    path = write(tmp_path / "t.jsonl", rows)
    code, out, _ = likely(path, "--vary", "typos", "--vary", "choices", "--variants", "4", "-M", "one", "--json")
    found = figures(out)
    assert code == 0 and {row["task"] for row in found.values()} == {"t"}
    # the table goes by the last letter, and choices begin with a space: which typos stand before is all the same to it
    assert found["acc_typos"]["value"] == pytest.approx(found["acc"]["value"]) and found["kl_typos"]["value"] < 0.05
    # of letters under "Answer:" it always says the same one, whatever stands behind it
    best = int(np.argmax([logprob(tables["one"], f" {letter}", ids(":")[0]) for letter in "ABC"]))
    taken = [[order(Variation("choices", way), i, 3)[best] for i in range(24)] for way in range(1, 5)]
    assert found["flips_choices"]["value"] == pytest.approx(np.mean(np.array(taken) != best))
    said = found["acc_choices_spread"]["protocol"]
    assert (said["vary"], said["variants"], said["seed"]) == ("choices", 4, 0)
    questions = [{"prompt": f"{i} say:", "answer": "xyz", "paraphrases": [f"{i} tell:"]} for i in range(4)]
    asked = write(tmp_path / "q.jsonl", questions)
    found = figures(likely(asked, "-M", "xyz", "--vary", "paraphrase", "--variants", "1", "--json")[1])
    assert found["exact_paraphrase"]["value"] == 1 and found["exact_paraphrase_change"]["value"] == 0
    assert found["kl_paraphrase"]["value"] == pytest.approx(0, abs=1e-9) and found["same_top_paraphrase"]["n"] == 4
    by = figures(likely(asked, "-M", "xyz", "--vary", "paraphrase", "--paraphraser", "xyz", "--json")[1])
    assert "exact_paraphrase" in by and by["exact_paraphrase"]["protocol"]["paraphraser"] == "xyz"
    write(tmp_path / "digits.jsonl", [{"prompt": "1+1=", "answer": "2"}, {"prompt": "say:", "answer": "xyz"}])
    code, out, err = likely(tmp_path / "digits.jsonl", "-M", "xyz", "--vary", "typos")
    assert code == 0 and "typos of 1 of 2 items: it has no letter to mistype" in err and "exact_typos" in out
    assert "--variants goes with --vary" in likely(path, "--variants", "2")[2]
    assert likely(path, "--vary", "typos", "--paraphraser", "one")[0] == 2
    assert "--vary is of tasks" in likely("--text", path, "--vary", "typos")[2]
    assert "choices are varied of choices" in likely(asked, "--vary", "choices")[2]
    assert likely("--compare", "--vary", "typos")[0] == 2


def test_the_answers_of_two_models_are_judged_by_a_third(
    likely: Likely, tables: dict[str, np.ndarray], tmp_path: Path
) -> None:
    tables["uvw"], tables["judge"] = certain_table(":uvw"), random_table(7)
    rows = [{"prompt": f"{i} say:", "answer": "xyz"} for i in range(9)]
    (tmp_path / "t.toml").write_text('data = "rows.jsonl"\nprompt = "{prompt}"\nanswer = "{answer}"\n'
                                     'judge = "{prompt}{first}{second}"\n')  # fmt: skip
    write(tmp_path / "rows.jsonl", rows)
    call = (tmp_path / "t.toml", "-M", "uvw", "-M", "xyz", "--judge", "judge", "--json")
    told = lines(likely(*call))
    found = [row for row in told if row.get("model") == "judge"]
    assert any(row.get("models") == ["uvw", "xyz"] for row in told)  # how these two compare
    assert {row["task"] for row in found} == {"t: xyz against uvw"}
    values = {row["measure"]: row["value"] for row in found}
    said = found[0]["protocol"]
    assert said["judge"] == "{prompt}{first}{second}" and found[0]["n"] == 9
    logs = [item["loglikelihoods"] for item in lines(likely(*call, "--items")) if item["model"] == "judge"]
    table = tables["judge"]
    exact = [logprob(table, f" {verdict}", ids(end)[0]) for end in "wz" for verdict in "ABC"]
    assert logs[0] == pytest.approx(exact, abs=1e-4) and values["unclear"] == 1
    assert "--judge compares two models' answers" in likely(tmp_path / "t.toml", "-M", "xyz", "--judge", "judge")[2]
    pairs = write(tmp_path / "pairs.jsonl", [{"good": "a", "bad": "b"}])
    assert "--judge is of answers that are drawn" in likely(pairs, "-M", "one", "-M", "two", "--judge", "judge")[2]
