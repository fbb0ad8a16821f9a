"""`likely inside` as a person and as a program call it."""

import csv
import io
import json
import re
import shutil
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from tokenizers import Tokenizer

from likely.metal import mx
from tests.cli.conftest import Likely, random_model
from tests.engine import tiny


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return random_model(tmp_path_factory.mktemp("inside") / "model", num_hidden_layers=3)


@pytest.fixture
def inside(folder: Path, likely: Likely) -> Likely:
    """`likely inside ARGS`."""
    return lambda *words: likely("inside", "-M", folder, *words)


def test_everything_for_programs(inside: Likely) -> None:
    code, out, err = inside(
        "hello", "--raw", "--json", "--lens", "--heads", "--attention", "2.1", "--attribution", "--ablate", "2.3"
    )
    assert (code, err) == (0, "")
    found = json.loads(out)
    assert list(found) == ["ids", "lens", "heads", "attention", "attribution", "ablation", "units"]
    assert found["units"] == {"kl": "nats", "heads": "nats"}
    assert len(found["ids"]) == 5
    for name in ("top", "p", "kl"):
        assert np.shape(found["lens"][name]) == (4, 5)
    assert found["lens"]["kl"][-1] == [0] * 5
    assert np.shape(found["heads"]) == (3, 4, 5)
    assert np.shape(found["attention"]) == (5, 5) and np.allclose(np.sum(found["attention"], axis=1), 1)
    a = found["attribution"]
    assert a["token"] == found["lens"]["top"][-1][-1]
    parts = a["embedding"] + sum(a["attention"]) + sum(a["mlp"]) + a["bias"]
    assert abs(parts - a["sum"]) < 1e-5 and abs(a["sum"] - a["logit"]) < 1e-4
    assert np.allclose(np.sum(a["heads"], axis=1), a["attention"], atol=1e-6)
    assert abs(found["ablation"]["logit"] - a["logit"]) < 1e-4 and found["ablation"]["effect"] != 0


def test_only_what_is_asked_for(inside: Likely) -> None:
    assert list(json.loads(inside("hello", "--json")[1])) == ["ids"]
    found = json.loads(inside("hello", "--json", "--attribution", "--against", "5")[1])["attribution"]
    assert found["against"] == 5 and abs(found["sum"] - found["logit"]) < 1e-4


def test_why_one_word_and_not_another(inside: Likely) -> None:
    found = json.loads(inside("hello", "--json", "--target", "x", "--foil", "q")[1])
    assert list(found) == ["ids", "target", "foil", "surprisal", "rank", "wrote", "sum", "left_out", "units"]
    assert found["target"] - found["foil"] == ord("x") - ord("q") and found["units"]["wrote"] == "bits"
    assert np.shape(found["rank"]) == (4, 2) and len(found["wrote"]) == 3 * (4 + 1) + 1
    raw = found["surprisal"]
    assert sum(bits for _, bits in found["wrote"]) == pytest.approx(found["sum"])
    assert found["sum"] == pytest.approx(raw[1] - raw[0], abs=1e-3)
    assert sorted(position for position, _ in found["left_out"]) == [0, 1, 2, 3, 4]
    turned = json.loads(inside("hello", "--json", "--target", "q", "--foil", "x")[1])
    assert turned["sum"] == pytest.approx(-found["sum"], abs=1e-3)
    assert turned["rank"] == [pair[::-1] for pair in found["rank"]]
    out = inside("hello", "--target", "x", "--foil", "q")[1]
    rows = re.findall(r"(?m)^(?:head|mlp|emb\S*|\+) .*?(-?\d+\.\d{4})", out)
    said = re.search(r"sum ([+-][\d.]+) bits", out)
    assert said is not None and len(rows) == 12 and float(said[1]) == pytest.approx(sum(map(float, rows)), abs=0.01)
    for args, line in (
        (("--foil", "x"), "--foil goes with --target"), (("--target", "x", "--foil", "x"), "got 'x' for both"),
        (("--target", ""), "want a letter or more"),
    ):  # fmt: skip
        code, _, err = inside("hello", *args)
        assert code and line in err
    said = inside("hello", "--target", "x\nz")[2]
    assert "is 3 tokens here: its first" in said and len(said.splitlines()) == 1


def test_why_a_text_ends(folder: Path, tmp_path: Path, likely: Likely) -> None:
    marked = Path(shutil.copytree(folder, tmp_path / "marked"))
    tokenizer = Tokenizer.from_file(str(marked / "tokenizer.json"))
    tokenizer.add_special_tokens([tiny.PIECES[tiny.EOS]])
    tokenizer.save(str(marked / "tokenizer.json"))
    code, out, err = likely("inside", "-M", marked, "hello", "--json", "--target", tiny.PIECES[tiny.EOS])
    assert (code, err) == (0, "") and json.loads(out)["target"] == tiny.EOS


def test_neighbours_need_no_text(inside: Likely) -> None:
    found = json.loads(inside("--neighbours", "65", "--centred", "--json")[1])["neighbours"]
    assert len(found) == 10 and 65 not in [near["id"] for near in found]
    assert [near["cosine"] for near in found] == sorted((near["cosine"] for near in found), reverse=True)
    assert found != json.loads(inside("--neighbours", "65", "--json")[1])["neighbours"]
    assert found != json.loads(inside("--neighbours", "65", "--centred", "--output", "--json")[1])["neighbours"]
    assert len(json.loads(inside("--neighbours", "0", "--json")[1])["neighbours"]) == 10  # the first token is one too


def test_patching_for_programs(inside: Likely) -> None:
    found = json.loads(inside("hello", "--patch", "hallo", "--against", "7", "--json")[1])["patching"]
    assert np.shape(found["effects"]) == np.shape(found["estimates"]) == (3, 5)
    assert found["effects"][-1][-1] == pytest.approx(1, abs=1e-4) and found["effects"][-1][:-1] == pytest.approx(
        [0] * 4
    )
    by_heads = ("hello", "--patch", "hallo", "--against", "7", "--part", "heads")
    found = json.loads(inside(*by_heads, "--json")[1])["patching"]
    assert np.shape(found["effects"]) == np.shape(found["estimates"]) == (3, 4) and found["part"] == "heads"
    assert "layer and head" in inside(*by_heads)[1]
    code, _, err = inside("hello", "--patch", "hallo!", "--json")
    assert code == 1 and "as many tokens, got 5 and 6" in err and err.count("\n") == 1


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ((), "What the model would say next after each layer"),
        (("--heads",), "How widely each head reads"),
        (("--scores",), "induction "),
        (("--attention", "0.0"), "each sums to 1"),
        (("--attribution",), "a logit has a free constant"),
        (("--attribution", "--against", "7"), " over "),
        (("--ablate", "1.2"), "without the head"),
        (("--patch", "hallo", "--against", "7"), "at each layer and token"),
        (("--neighbours", "7"), "Nearest tokens"),
        (("--spellings", "abab"), "a|b|ab"),
        (("--importance",), "bits by which it is more surprising"),
        (("--toward", "yes", "--away", "no"), "weight 0.5"),
    ],
)
def test_for_a_person(inside: Likely, args: tuple[str, ...], words: str) -> None:
    code, out, err = inside("hello", *args)
    assert (code, err) == (0, "") and words in out and "\x1b" not in out


def test_tables_and_pictures(inside: Likely) -> None:
    rows = list(csv.reader(io.StringIO(inside("hello", "--attention", "1.1", "--csv")[1])))
    assert len(rows) == 6 and rows[1][1] == "1.000"
    rows = list(csv.reader(io.StringIO(inside("hello", "--attribution", "--csv")[1])))
    assert rows[0] == ["name", "value"] and len(rows) == 1 + 3 * 4 + 3 + 2
    for args in ((), ("--attention", "1.1"), ("--heads",), ("--patch", "hallo", "--against", "7")):
        picture = ElementTree.fromstring(
            inside("a<b&c", *args[:1], *(x.replace("hallo", "a<b&d") for x in args[1:]), "--svg")[1]
        )
        assert picture.tag.endswith("svg") and len(list(picture)) > 10
    assert inside("hello", "--lens", "--heads", "--csv")[0] == 2


def test_activations_are_saved(inside: Likely, tmp_path: Path) -> None:
    code, out, err = inside("hello", "--save", str(tmp_path / "a.safetensors"), "--keep", "layers.*.mlp")
    assert (code, out) == (0, "") and "3 activations are in" in err
    assert sorted(mx.load(str(tmp_path / "a.safetensors"))) == [f"layers.{i}.mlp" for i in range(3)]


@pytest.mark.slow
def test_a_tuned_lens_is_fit_kept_and_used(inside: Likely, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIKELY_HOME", str(tmp_path / "home"))
    code, _, err = inside("hello", "--lens", "--tuned")
    assert code == 1 and "no tuned lens is kept" in err
    random = np.random.default_rng(1)
    (tmp_path / "text").write_text("".join(random.choice(list("abcdefgh .,\n"), 3000)))
    code, out, err = inside("--tune-lens", str(tmp_path / "text"))
    assert (code, out) == (0, "") and err.startswith("KL to the last layer on held-out text")
    assert inside("--tune-lens", str(tmp_path / "text"), "--neighbours", "65")[1] == inside("--neighbours", "65")[1]
    plain = json.loads(inside("cab", "--lens", "--json")[1])["lens"]
    tuned = json.loads(inside("cab", "--lens", "--tuned", "--json")[1])["lens"]
    assert tuned["kl"][-1] == [0] * len(tuned["kl"][-1]) and tuned["top"][-1] == plain["top"][-1]
    assert np.mean(tuned["kl"][0]) < np.mean(plain["kl"][0])


def test_spellings_for_programs(inside: Likely) -> None:
    found = json.loads(inside("x", "--spellings", "abab", "--json")[1])["tokenisation"]
    assert len(found["spellings"]) == 4 and found["complete"] and [way["own"] for way in found["spellings"]].count(True)
    assert found["logprob"] > max(way["logprob"] for way in found["spellings"])


def test_a_direction_is_kept_and_taken_as_an_adapter(inside: Likely, tmp_path: Path) -> None:
    kept = tmp_path / "kind"
    args = ("--toward", "yes", "--toward", "aye", "--away", "no", "--layer", "1", "--direction", str(kept), "--json")
    found = json.loads(inside("hello", *args)[1])["steering"]
    assert found["layer"] == 1 and found["norm"] > 0 and found["kl"] == sorted(found["kl"]) and found["kl"][0] > 0
    plain = json.loads(inside("hello", "--lens", "--json")[1])["lens"]
    steered = json.loads(inside("hello", "--lens", "--json", "--adapter", f"{kept}=4")[1])["lens"]
    assert steered["kl"][1] != plain["kl"][1] and steered["top"][1] == plain["top"][1]
    assert steered["p"][2] != plain["p"][2]


@pytest.mark.parametrize(
    ("args", "code", "words"),
    [
        (("hello", "--attention", "3.0"), 1, "no head 3.0: this model has layers 0 to 2 and heads 0 to 3"),
        (("hello", "--attention", "one"), 2, "a head is named LAYER.HEAD, as in 3.0, got 'one'"),
        (("hello", "--patch", "hello"), 1, "the same: there is nothing to patch"),
        (("hello", "--patch", "hallo", "--against", "288"), 1, "must be 0 to 287, got 288"),
        (("hello", "--toward", "yes"), 1, "two sets of prompts: give at least one of each"),
        (("hello", "--chat"), 1, "has no chat template"),
        (("hello", "--chat", "--raw"), 2, "either --chat or --raw"),
        (("hello", "--json", "--csv"), 2, "one of --json, --csv and --svg"),
        (("hello", "--attribution", "--svg", "-M", "nowhere"), 2, "--attribution is none: take --csv"),
        (("hello", "--attribution", "--against", "288"), 1, "must be an id from 0 to 287, got 288"),
        (("--neighbours", "-1"), 1, "must be 0 to 287, got -1"),
        (("", "--lens"), 1, "there is nothing to look into"),
        (("x" * 200,), 1, "has 200 tokens and this model reads at most 128"),
    ],
)
def test_what_is_refused(inside: Likely, args: tuple[str, ...], code: int, words: str) -> None:
    got, out, err = inside(*args)
    assert (got, out) == (code, "") and words in err


@pytest.mark.slow(8)
def test_a_text_whose_attention_is_too_large_is_windowed_and_says_so(likely: Likely, tmp_path: Path) -> None:
    """Of all heads of a layer, in 256 MiB."""
    heads = 8192
    shape = {"num_attention_heads": heads, "num_key_value_heads": 1, "head_dim": 2, "num_hidden_layers": 1}
    model, rows = random_model(tmp_path / "model", **shape), (1 << 28) // (4 * heads * 100)
    code, out, err = likely("inside", "-M", model, "x" * 100, "--lens", "--attention", "0.1", "--json")
    found = json.loads(out)
    assert code == 0 and err == f"likely: 100 tokens are read, the last {rows} are shown\n"
    assert len(found["ids"]) == 100 and found["first"] == 100 - rows
    assert np.shape(found["lens"]["top"]) == (2, rows) and np.shape(found["attention"]) == (rows, 100)


def test_rollout_and_sinks_for_programs(inside: Likely) -> None:
    code, out, _ = inside("hello", "--rollout", "--attention", "1.0", "--without-first", "--json")
    found = json.loads(out)
    assert code == 0 and np.shape(found["rollout"]) == (5, 5)
    for name in ("rollout", "attention"):
        weights = np.array(found[name])
        assert (weights[:, 0] == 0).all() and np.allclose(weights[1:].sum(axis=1), 1)
    assert inside("hello", "--rollout")[0] == 0


def test_sums_relations_and_merges_need_no_text(inside: Likely) -> None:
    code, out, _ = inside("--merges", "abc", "--json")
    assert code == 0 and json.loads(out)["merges"] == [["a", "b", "c"], ["ab", "c"]]
    assert inside("--merges", "ab")[0] == 0
    code, _, err = inside("--sum", "king - man + woman")
    assert code and "king is not one token" in err
    code, _, err = inside("--relations")
    assert code and "cuts the words" in err


def test_a_look_at_the_model_alone_takes_no_file_and_what_is_saved_is_of_a_text(inside: Likely, tmp_path: Path) -> None:
    (tmp_path / "text").write_text("hello")
    code, _, err = inside("--neighbours", "5", "--file", str(tmp_path / "text"))
    assert code == 2 and "--neighbours is of the model alone: leave out --file" in err
    saved = tmp_path / "kept.safetensors"
    code, _, err = inside("--neighbours", "5", "--file", str(tmp_path / "text"), "--save", str(saved))
    assert code == 0 and saved.exists(), err
