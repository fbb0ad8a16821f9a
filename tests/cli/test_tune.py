"""`likely tune`, `fuse` and `diff` as a person calls them, on a tiny model; and their words for runs made by hand."""

import json
import math
import re
import shlex
import shutil
import signal
import time
from dataclasses import replace
from itertools import count
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from likely.app.cli.options.training import follow, leave
from likely.app.cli.reports import tune_search
from likely.app.results.training_command import out_of
from likely.app.results.training_kind import KINDS, PRETRAIN, REWARD, TUNE, chat_with, kind_of, look_at
from likely.app.results.training_plan import duration, outcome
from likely.engine.base.errors import LikelyError
from likely.engine.base.statistics.estimates import Estimate
from likely.engine.measure.estimate.search import SearchPoint, SearchResult
from likely.engine.train.control import Ended, Stepped, Validated
from likely.engine.train.pretrain.config import PretrainConfig
from likely.engine.weights.adapters.config import FLOOR, Config
from likely.metal import mx
from tests.cli.conftest import Likely, random_model
from tests.engine.tiny import MOE


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return random_model(tmp_path / "model")


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.jsonl"
    values = [{"prompt": f"tag {i}", "completion": f"<{i}>"} for i in range(30)]
    path.write_text("".join(json.dumps(value) + "\n" for value in values))
    return path


@pytest.mark.slow
def test_a_search_says_what_it_will_cost_chooses_and_trains_on_all_rows(
    likely: Likely, model: Path, rows: Path, tmp_path: Path
) -> None:
    grid, out = tmp_path / "grid.toml", tmp_path / "out"
    grid.write_text("folds = 2\n[grid]\nl1 = [0, 1e4]\n")
    words = ("tune", rows, "-M", model, "--search", grid, "--out", out, "--steps", 3, "--length", 64, "--no-verdict")
    code, printed, err = likely(*words, "--dry-run")
    assert code == 0 and printed == "" and not out.exists()
    assert "2 points x 2 folds of 30 rows: 4 trainings, 0 done already; about" in err
    code, printed, err = likely(*words)
    assert code == 0, err
    table = printed.splitlines()
    assert table[0].startswith("l1: loss of held-out rows")
    assert [line.split()[0] for line in table[1:3]] == ["0", "10000"]
    assert "least loss" in printed and "30 train, 0 valid" in err and (out / "adapters.safetensors").exists()
    # with such an L1 every factor is 0, and what was chosen is what the last training had
    zero = not any(mx.any(a != 0) for a in mx.load(str(out / "adapters.safetensors")).values())
    assert zero == ("the simplest is l1 10000" in printed)
    hint = err.rpartition("little: likely ")[2].splitlines()[0]
    code, printed, err = likely(*words, "--json")
    events = [json.loads(line) for line in printed.splitlines()]
    assert [event["event"] for event in events[:6]] == ["planned", *["trial"] * 4, "chosen"]
    assert (events[0]["trainings"], events[0]["done"], events[0]["seconds"]) == (4, 4, 0)
    assert events[5]["points"][1]["loss"]["mean"] > 0 and events[-1]["event"] == "ended"
    # the command that is said to go on with is of the one training, and goes on
    code, _, err = likely(*shlex.split(hint.replace("--steps 100", "--steps 4")))
    assert code == 0 and "--search" not in hint and "done after step 4" in err
    for wrong in (("--resume",), ("--valid", 0.2), ("--l1", 0.1)):
        code, _, err = likely(*words, *wrong)
        assert code in (1, 2) and wrong[0].lstrip("-") in err, err
    # where a training lies that no search began, its end would be refused: that is said before the search
    other = ("--out", tmp_path / "plain", "--steps", 1, "--length", 64, "--no-verdict")
    assert likely("tune", rows, "-M", model, *other)[0] == 0
    code, printed, err = likely(*words, "--out", tmp_path / "plain", "--json")
    assert code == 1 and printed == "" and "another --out" in err


def test_a_dry_run_shows_what_is_trained(likely: Likely, model: Path, rows: Path) -> None:
    code, out, err = likely("tune", rows, "-M", model, "--dry-run", "--length", 64)
    assert code == 0, err
    assert "30 prompt" in out and "trained" in out and "steps" in out and "GB free" in out
    assert "⟦<0>" in out or "⟦<1>" in out
    code, out, _ = likely("tune", rows, "-M", model, "--dry-run", "--json", "--length", 64)
    found = json.loads(out)
    assert found["forms"] == {"prompt": 30} and 0 < found["trained"] < found["tokens"] and found["memory"]["base"] > 0


@pytest.mark.slow
def test_where_no_model_is_named_the_one_chosen_last_is_trained(
    likely: Likely, model: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other, toml = random_model(tmp_path / "other", 1), tmp_path / "tune.toml"
    toml.write_text(f'model = "{model}"\n')

    def trained(*words: object) -> object:
        code, out, err = likely("tune", rows, "--dry-run", "--json", "--length", 64, *words)
        assert code == 0, err
        return json.loads(out)["model"]

    monkeypatch.delenv("LIKELY_MODEL")
    assert likely("models", "--default", other).code == 0
    assert trained() == str(other)
    assert trained("-c", toml) == str(model)
    monkeypatch.setenv("LIKELY_MODEL", str(model))
    assert trained() == str(model) and trained("-M", other) == str(other)


def test_a_data_set_smaller_than_a_batch_is_trained_on_whole_and_says_so(
    likely: Likely, model: Path, tmp_path: Path
) -> None:
    few = tmp_path / "few.jsonl"
    few.write_text('{"prompt": "a", "completion": "b"}\n{"prompt": "c", "completion": "d"}\n')
    options = ("-M", model, "--length", 64, "--steps", 2, "--batch", 4, "--valid", 0, "--out", tmp_path / "adapter")
    code, _, err = likely("tune", few, *options, "--no-verdict")
    assert code == 0 and "one batch holds all 2 samples: every step is a pass" in err


def test_tune_diff_and_fuse(likely: Likely, model: Path, rows: Path, tmp_path: Path) -> None:
    out = tmp_path / "adapter"
    options = ("--length", 64, "--rate", 0.02, "--layers", 2)
    code, text, err = likely("tune", rows, "-M", model, "--out", out, "--steps", 6, "--json", "--no-verdict", *options)
    assert code == 0, err
    events = [json.loads(line) for line in text.splitlines()]
    assert events[0]["event"] == "prepared" and events[0]["steps"] == 6 and events[0]["untrained"] == []
    assert [e["event"] for e in events[-3:]] == ["validated", "saved", "ended"] and events[-1]["reason"] == "done"
    assert json.loads((out / "adapter_config.json").read_text())["lora_parameters"]["rank"] == 8
    code, text, err = likely("diff", model, out, "tag 3", "--json")
    found = json.loads(text)
    assert code == 0 and found["kl"] > 0 and len(found["positions"]) == 5 and found["positions"][0]["text"] == "t"
    measured = json.loads(likely("diff", model, out, "tag 3", "--metric", "js", "--json").out)
    said = next(
        line for line in likely("diff", model, out, "tag 3", "--metric", "js").out.splitlines() if "mean KL" in line
    )
    assert f"{measured['kl'] / math.log(2):.4f}" in said and f"{measured['js'] / math.log(2):.4f} bits" in said
    assert "mean KL 0.0000" in likely("diff", model, model, "tag 3").out
    code, text, err = likely("fuse", out, "--data", rows, "--out", tmp_path / "fused")
    assert code == 0 and "KL to the base" in text, err
    code, text, _ = likely("diff", out, tmp_path / "fused", "tag 3", "--json")
    assert json.loads(text)["kl"] < 1e-6
    code, text, _ = likely("fuse", out, "--peft", tmp_path / "peft")
    assert code == 0 and (tmp_path / "peft" / "adapter_model.safetensors").exists()


def test_the_end_says_which_weights_a_name_takes(likely: Likely, model: Path, tmp_path: Path) -> None:
    """Of rows whose validation rows say the contrary the first step is the best."""
    data, out = tmp_path / "rows", tmp_path / "an adapter"
    data.mkdir()
    for name, said in (("train", "a"), ("valid", "z")):
        lines = (json.dumps({"prompt": f"tag {i}", "completion": said * 9}) + "\n" for i in range(6))
        (data / f"{name}.jsonl").write_text("".join(lines))
    options = ("--length", 64, "--steps", 3, "--rate", 0.3, "--eval-every", 1, "--no-verdict")
    err = likely("tune", data, "-M", model, "--out", out, *options).err
    last, best = (json.loads((place / "adapter_config.json").read_text())["step"] for place in (out, out / "best"))
    assert last == 3 > best and f"-A '{out}' takes the weights of step 3, -A '{out}/best' those of step {best}" in err


def test_whoever_adapts_experts_is_told_before_that_peft_has_no_place_for_them(
    likely: Likely, rows: Path, tmp_path: Path
) -> None:
    mixture = random_model(tmp_path / "mixture", **MOE)
    words = ("tune", rows, "-M", mixture, "--length", 64, "--steps", 1, "--rank", 2, "--no-verdict", "--valid", 0)
    told = [likely(*words, *more, "--dry-run").out for more in ((), ("--modules", "self_attn.*"))]
    assert ["experts too, which PEFT" in out for out in told] == [True, False]
    code, _, err = likely(*words, "--modules", "self_attn.*", "--out", tmp_path / "a")
    assert code == 0, err
    assert likely("fuse", tmp_path / "a", "--peft", tmp_path / "peft").code == 0


@pytest.mark.slow(1)
def test_columns_of_a_table_that_were_renamed_once_are_known_to_whoever_takes_the_adapter(
    likely: Likely, model: Path, tmp_path: Path
) -> None:
    table, out = tmp_path / "fragen.csv", tmp_path / "adapter"
    table.write_text("frage;antwort;nr\n" + "".join(f"tag {i};<{i}>;{i}\n" for i in range(14)))
    maps = ("--map", "frage=question", "--map", "antwort=answer")
    options = ("-M", model, "--length", 64, "--steps", 2, "--layers", 1, "--out", out)
    code, _, err = likely("tune", table, *options)
    assert code == 1 and "none of its 14 rows can be read\n  2, 3, 4, " in err and "got frage, antwort, nr" in err
    code, _, err = likely("tune", table, *options, *maps)
    assert code == 0 and "frage asks, antwort is learned; not read: nr; semicolons part the columns" in err, err
    assert likely("fuse", out, "--out", tmp_path / "fused", "--force").code == 0
    assert likely("posterior", "laplace", out).code == 0
    for of in (("-M", out), ("-M", model, "-A", out)):
        code, printed, err = likely("eval", table, *of, "--limit", 1, "--items", "--json")
        assert code == 0 and json.loads(printed.splitlines()[0])["task"] == "fragen", err
        assert "template" not in err
    spoken = Path(shutil.copytree(model, tmp_path / "spoken"))
    (spoken / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    for chat in ((), ("--chat",)):
        err = likely("eval", table, "-M", spoken, "-A", out, "--limit", 1, *chat).err
        assert ("without the chat template, by which `likely tune` trains: --chat" in err) == (not chat), err
    own = tmp_path / "rows.csv"  # the names that were remembered need not be of this file
    own.write_text("question,answer\n" + "a,b\n" * 2)
    assert likely("eval", own, "-M", out, "--limit", 1).code == 0
    assert "write frage=question" in likely("eval", table, "-M", model, "--map", "question=frage").err
    code, printed, err = likely("reason", "-M", model, "--file", table, *maps, "-n", 2, "--limit", 1, "--json",
                                "--max-tokens", 2)  # fmt: skip
    assert code == 0 and json.loads(printed)["problems"] == 1, err
    pipeline = tmp_path / "made.toml"
    pipeline.write_text(f'out = "{tmp_path}/made"\n[generate]\nmethod = "augment"\ndata = "{table}"\n')
    assert "got frage, antwort, nr" in likely("synth", pipeline).err
    assert likely("synth", pipeline, *maps).code == 0
    assert {json.loads(line)["completion"] for line in (tmp_path / "made" / "dropped.jsonl").open()} <= {
        f"<{i}>" for i in range(14)
    }


@pytest.mark.slow(2)
def test_an_adapter_of_a_base_of_few_bits_is_fused_into_as_many_as_keep_it(
    likely: Likely, model: Path, rows: Path, tmp_path: Path
) -> None:
    """The oracle is what the files themselves compute, by `likely diff`."""
    small, out = tmp_path / "small", tmp_path / "adapter"
    printed = likely("quantize", model, "--bits", "all", "--group", 32, "--json").out.splitlines()
    told = {one["bits"]: one for one in map(json.loads, printed)}
    lines = likely("quantize", model, "--bits", "all", "--group", 32).out.splitlines()
    assert [line.split()[0] for line in lines[1:7]] == ["2", "3", "4", "5", "6", "8"] and not small.exists()
    for line, one in zip(lines[1:7], told.values(), strict=True):
        assert f"{one['flips']:.1%}" in line and f" {one['kl'] / math.log(2):.4f} " in line and one["words"] in line
    fewest = next((bits for bits, one in told.items() if one["words"] in ("hardly told apart", "as the original")), 0)
    assert f"--bits {fewest} --group 32 writes" in lines[-1] and told[fewest]["flips"] < 0.06 <= told[3]["flips"]
    assert likely("quantize", model, "--bits", 3, "--group", 32, "--to", small).code == 0
    options = ("--length", 64, "--rate", 1e-3, "--steps", 2, "--layers", 1)
    code, _, err = likely("tune", rows, "-M", small, "--out", out, *options)
    assert code == 0, err
    assert "has lost the adapter" in likely("fuse", out, "--bits", 3, "--group-size", 32, "--out", tmp_path / "no").err
    code, _, err = likely("fuse", out, "--out", tmp_path / "fused")
    assert code == 0 and "the bits of the base would lose the adapter: more are tried" in err, err
    far, apart = (
        json.loads(likely("diff", one, out, "tag 3", "--json").out)["kl"] for one in (small, tmp_path / "fused")
    )
    assert apart < 0.5 * far


def test_options_come_from_a_file_and_flags_stand_over_it(
    likely: Likely, model: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "tune.toml"
    file.write_text(f'data = "{rows}"\nmodel = "{model}"\nrank = 3\nlength = 64\nmodules = ["q_proj"]\nsteps = 2\n')
    out = tmp_path / "adapter"
    assert likely("tune", "-c", file, "--out", out, "--rank", 5, "--no-verdict")[0] == 0
    stored: dict[str, mx.array] = mx.load(str(out / "adapters.safetensors"))  # type: ignore[assignment]
    assert {a.shape[1] for n, a in stored.items() if n.endswith("lora_a")} == {5}
    assert all("q_proj" in name for name in stored)
    file.write_text("rnak = 3\n")
    assert likely("tune", "-c", file, rows)[2] == "likely: unknown option rnak; did you mean rank?\n"
    file.write_text("rank = \n")
    assert "tune.toml: not TOML" in likely("tune", "-c", file, rows)[2]


@pytest.mark.slow(2)
def test_ctrl_c_finishes_the_step_saves_and_prints_how_to_go_on(
    likely: Likely, model: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked, clock = count(), time.perf_counter

    def rings() -> float:
        """A clock at whose sixth look after the first step somebody presses ctrl+c."""
        if (tmp_path / "adapter" / "metrics.jsonl").exists() and next(asked) == 6:
            signal.raise_signal(signal.SIGINT)
        return clock()

    out = tmp_path / "adapter"
    arguments = ("tune", rows, "-M", model, "--out", out, "--steps", 40, "--length", 64, "--no-verdict")
    with monkeypatch.context() as patch:
        patch.setattr(time, "perf_counter", rings)
        code, _, err = likely(*arguments)
    said = re.search(r"stopped after step (\d+); go on with: likely (.*)$", err.rstrip())
    assert code == 130 and said is not None and 0 < int(said[1]) < 40, err
    code, _, err = likely(*shlex.split(said[2]))
    assert code == 0 and "done after step 40" in err


def test_problems_are_one_line(likely: Likely, model: Path, rows: Path, tmp_path: Path) -> None:
    bad = tmp_path / "bad.jsonl"
    bad.write_text('{"text": }\n')
    for arguments, line in (
        (("tune", bad, "-M", model), "bad.jsonl:1:10: one JSON object a line expected"),
        (("tune", rows, "-M", model, "--objective", "dpo"), "objective dpo does not fit these rows"),
        (("tune", rows, "-M", model, "--rank", 99), "rank must be 1 to 64"),
        (("tune", rows, "-M", model, "--layers", 9), "layers must be -1 (all) or 1 to the model's 2"),
        (("diff", model, tmp_path / "nowhere", "x"), "there is no"),
        (("fuse", tmp_path / "nowhere", "--data", rows, "--out", tmp_path / "x"), "no adapter directory"),
    ):
        code, _, err = likely(*arguments)
        assert code == 1 and line in err and err.count("\n") == 1, err


def test_room_that_is_lacking_is_said_before_the_first_step(
    likely: Likely, model: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Path.read_text
    free = {"/proc/meminfo": "MemAvailable: 97 kB\n"}
    options = ("--out", tmp_path / "adapter", "--length", 64, "--batch", 4)
    with monkeypatch.context() as little:
        little.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
        code, _, err = likely("tune", rows, "-M", model, *options)
    assert code == 1 and "not enough disk space" in err and "set --out to another disk" in err
    monkeypatch.setattr(Path, "read_text", lambda path, *how, **so: free.get(str(path)) or read(path, *how, **so))
    code, _, err = likely("tune", rows, "-M", model, *options)
    assert code == 1 and "a step needs about" in err and "try --checkpointing, or --batch 1" in err
    assert not (tmp_path / "adapter").exists()


def test_options_by_their_names_of_before(likely: Likely, model: Path, rows: Path, tmp_path: Path) -> None:
    """`start`, `plus` and `pack`, in a file and as flags, mean `init`, `lora_plus_ratio` and `packing`."""
    names = ("init", "lora_plus_ratio", "packing")
    file = tmp_path / "tune.toml"
    file.write_text('start = "pissa"\nplus = 4.0\npack = false\n')

    def trained(name: str, *options: object) -> tuple[object, ...]:
        out = tmp_path / name
        common = ("tune", rows, "-M", model, "--steps", 1, "--no-verdict", "--length", 64, "--rank", 2, "--out", out)
        code, _, err = likely(*common, *options)
        assert code == 0, err
        settings = json.loads((out / "adapter_config.json").read_text())
        return tuple(settings[key] for key in names)

    assert trained("file", "-c", file) == ("pissa", 4.0, False)
    assert trained("flags", "--start", "pissa", "--plus", 4.0, "--no-pack") == ("pissa", 4.0, False)
    assert trained("both", "-c", file, "--init", "zero", "--packing") == ("zero", 4.0, True)
    code, _, err = likely("tune", rows, "--pack", "--packing")
    assert code == 1 and "pack is called packing now: give one of them" in err


def adapter_on(rows: Path, model: Path, out: Path, likely: Likely, *options: object) -> Path:
    short = ("--steps", 2, "--length", 64, "--no-verdict")
    code, _, err = likely("tune", rows, "-M", model, "--out", out, *short, *options)
    assert code == 0, err
    return out


def test_fuse_judges_as_many_rows_as_asked_of_the_data_it_was_trained_on(
    likely: Likely, model: Path, rows: Path, tmp_path: Path
) -> None:
    """The fault: validation rows were split off first, so --rows 8 measured one."""
    adapter = adapter_on(rows, model, tmp_path / "adapter", likely, "--rate", 0.02)
    for number, options in enumerate(((), ("--data", rows, "--rows", 5))):
        code, out, err = likely("fuse", adapter, "--out", tmp_path / f"fused{number}", "--json", *options)
        assert code == 0, err
        assert json.loads(out)["rows"] == (5 if options else 8)


def test_fuse_after_preferences_and_peft_without_data(
    likely: Likely, model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The faults: after DPO it demanded data that were given, and --peft demanded data it does not use."""
    pairs = tmp_path / "pairs.jsonl"
    values = [{"prompt": f"p{i}", "chosen": f"yes {i}", "rejected": f"no {i}"} for i in range(12)]
    pairs.write_text("".join(json.dumps(value) + "\n" for value in values))
    adapter = adapter_on(pairs, model, tmp_path / "adapter", likely, "--objective", "dpo", "--rate", 0.02)
    code, out, err = likely("fuse", adapter, "--data", pairs, "--out", tmp_path / "fused", "--json")
    assert code == 0 and json.loads(out)["kl_adapter"] > 0, err
    pairs.unlink()
    code, out, err = likely("fuse", adapter, "--peft", tmp_path / "peft")
    assert code == 0 and (tmp_path / "peft" / "adapter_model.safetensors").exists(), err
    code, _, err = likely("fuse", adapter, "--out", tmp_path / "again")
    assert code == 1 and "pairs.jsonl" in err


@pytest.mark.slow
def test_a_small_data_set_is_trained_long_enough_with_no_option(likely: Likely, model: Path, tmp_path: Path) -> None:
    """The fault: 50 short rows were one batch, so one step, and "done" of an adapter that does nothing."""
    rows = tmp_path / "rows.jsonl"
    rows.write_text("".join(json.dumps({"prompt": f"tag {i}", "completion": f"<{i}>"}) + "\n" for i in range(50)))
    code, _, err = likely("tune", rows, "-M", model, "--out", tmp_path / "adapter", "--rate", 0.02)
    assert code == 0, err
    steps = int(err.split("done after step ")[1].split(":")[0])
    assert 100 <= steps <= 250
    plan = err.split("chosen ")[1].splitlines()[0]
    assert plan.startswith("batches of ") and " passes, layers " in plan and f"so {steps} steps; few rows" in plan
    settings = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert 1 <= settings["batch"] <= 4 and settings["epochs"] >= 2
    assert "bits a token from the base (KL" in err and "next to nothing" not in err and "teach little: " not in err
    told = [json.loads(line) for line in (tmp_path / "adapter" / "metrics.jsonl").read_text().splitlines()]
    assert all(event["rate"] > 0 for event in told if event["event"] == "stepped")


@pytest.mark.slow
def test_a_run_that_did_little_says_so_and_names_what_would_do_better(
    likely: Likely, model: Path, rows: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "an adapter"
    common = ("tune", rows, "-M", model, "--length", 64, "--out", out)
    code, _, err = likely(*common, "--steps", 1)
    assert code == 0 and "moved 0.0000 bits a token from the base" in err, err
    line = err.splitlines()[-1]
    assert line.startswith("1 step teaches little: likely tune ") and line.endswith("--resume --steps 100")
    import shlex

    code, _, err = likely(*shlex.split(line.partition(": likely ")[2]))  # what it names is a command that works
    assert code == 0 and "done after step 100" in err
    still = tmp_path / "still"
    code, _, err = likely("tune", rows, "-M", model, "--length", 64, f"--out={still}", "--steps", 20, "--rate", 1e-7)
    assert err.splitlines()[-1].endswith(f"--rate 1e-06 --out {still}-2")
    assert err.splitlines()[-1].startswith("that is next to nothing: likely tune ")
    _, _, err = likely("tune", "--out", still, "--resume")  # of a run that was gone on with by its folder alone
    assert likely(*shlex.split(err.splitlines()[-1].partition(": likely ")[2]), "--dry-run")[0] == 0


@pytest.mark.slow
def test_a_run_goes_on_to_more_epochs_and_refuses_fewer(
    likely: Likely, model: Path, rows: Path, tmp_path: Path
) -> None:
    """The fault: --resume --epochs N did nothing."""
    common = ("tune", rows, "-M", model, "--length", 64, "--out", tmp_path / "adapter", "--valid", 0)
    assert likely(*common, "--batch", 10, "--no-packing", "--epochs", 2)[0] == 0
    code, _, err = likely(*common, "--epochs", 5, "--resume")  # the batch that the run began with
    assert code == 0 and "done after step 15" in err, err
    code, _, err = likely("tune", "--resume", "--out", tmp_path / "adapter", "--steps", 16)  # its options and its data
    assert code == 0 and "done after step 16" in err, err
    code, _, err = likely(*common, "--epochs", 1, "--resume")
    assert code == 1 and "has taken 16 steps, and 3 were asked for in all: give more --epochs or --steps" in err
    code, _, err = likely(*common, "--resume")
    assert code == 0 and "nothing was left to do" in err and "--epochs or --steps" in err


def test_fuse_writes_the_adapter_alone_for_llama_cpp(likely: Likely, model: Path, rows: Path, tmp_path: Path) -> None:
    from gguf import GGUFReader

    adapter = adapter_on(rows, model, tmp_path / "adapter", likely)
    code, out, err = likely("fuse", adapter, "--lora", tmp_path / "adapter.gguf")
    assert code == 0 and out == f"wrote {tmp_path / 'adapter.gguf'}\n", err
    names = {tensor.name for tensor in GGUFReader(str(tmp_path / "adapter.gguf")).tensors}
    assert {"blk.0.attn_q.weight.lora_a", "blk.1.ffn_down.weight.lora_b"} <= names
    assert likely("fuse", adapter)[0] == likely("fuse", adapter, "--lora", "x", "--peft", "y")[0] == 2


Captured = pytest.CaptureFixture[str]


def test_times_are_in_their_two_largest_units() -> None:
    given = (0, 59.4, 59.6, 60, 3599.4, 3600, 90_061, math.inf, math.nan)
    assert [duration(s) for s in given] == [
        "0 s", "59 s", "1 min 00 s", "1 min 00 s", "59 min 59 s", "1 h 00 min", "25 h 01 min", "?", "?",
    ]  # fmt: skip


def test_a_run_that_did_little_says_what_would_do_more() -> None:
    words = ["tune", "a b", "--resume", "--out", "x"]
    assert list(outcome(0.5, 20, 0.1, words)) == ["moved 0.7213 bits a token from the base (KL, on rows of the data)"]
    assert list(outcome(None, 19, 0.1, words)) == [
        f"19 steps teach little: likely tune --out x --resume --steps {FLOOR}"
    ]
    assert next(outcome(None, 1, 0.1, words)).startswith("1 step teaches little: likely tune --out x")
    assert len(list(outcome(0.0009, 8, 0.1, words, learned=True))) == 1  # as the verdict above it says
    moved, little = outcome(0.0009, 20, 0.1, words)
    assert (
        moved.startswith("moved 0.0013") and little == "that is next to nothing: likely tune 'a b' --rate 1 --out x-2"
    )
    assert len(list(outcome(0.001, 20, 0.1, words))) == 1 and list(outcome(None, 20, 0.1, words)) == []
    given = ["--out=y"], ["--out", "a", "--out", "b"], ["--out"], ["x"]
    assert [out_of(each) for each in given] == ["y", "b", "", "adapter"]


STEPPED = Stepped(
    step=3, steps=9, epoch=0.5, loss=2.5, smooth=2.25, rate=0.1, norm=1.0, tokens=30, tokens_per_s=12_345.6, kl=0.0,
    right=0.0, memory=2_250_000_000, elapsed_s=30.0,
)  # fmt: skip
VALID = Validated(step=3, loss=2.0, low=1.5, high=2.75, best=True, right=0.0, bits_per_byte=1.25)


class Shown:
    """A line of progress that is written down."""

    def __init__(self) -> None:
        self.lines: list[tuple[str, int, int]] = []

    def show(self, stage: str, done: int, total: int) -> None:
        self.lines.append((stage, done, total))


def test_a_training_is_followed_in_a_line(capsys: Captured) -> None:
    shown: Any = Shown()
    events = [STEPPED, VALID, STEPPED, replace(VALID, best=False, bits_per_byte=None), Ended("done", 9)]
    found = list(follow(events, True, False, shown, "<= "))
    valid = " · valid <= 2.885 ± 1.082 bits a token"
    assert [event for event, _ in found] == events and [said for _, said in found] == ["", valid, valid, valid, valid]
    assert shown.lines == [
        ("step 3 · loss 3.246 bits a token · 12,346 tokens/s · 2.25 GB · 1 min 00 s left", 3, 9),
        ("", 0, 0),
        (f"step 3 · loss 3.246{valid} · 12,346 tokens/s · 2.25 GB · 1 min 00 s left", 3, 9),
        ("", 0, 0),
        ("", 0, 0),
    ]
    assert capsys.readouterr().err == f"step 3{valid} · <= 1.250 bits a byte · best\nstep 3{valid}\n"
    list(follow([replace(VALID, low=None, high=None)], True, False, shown))
    assert " · valid 2.885 bits a token (one row: no interval) · 1.250 bits a byte" in capsys.readouterr().err
    list(follow([replace(STEPPED, step=9)], True, False, shown))
    assert shown.lines[-1][0].endswith(" · 2.25 GB")  # what comes after the last step is no 0 s


def test_a_run_that_was_stopped_says_how_to_go_on(capsys: Captured) -> None:
    run: Any = SimpleNamespace(saved=4, folder=Path("my run"))
    leave(Ended("done", 9), run, "tune")
    with pytest.raises(SystemExit) as end:
        leave(Ended("stopped", 3), run, "tune")
    assert end.value.code == 130
    assert capsys.readouterr().err == "stopped after step 3; go on with: likely tune --out 'my run' --resume\n"
    for reason in ("nan", "diverged"):
        with pytest.raises(LikelyError) as failed:
            leave(Ended(reason, 3, "it broke"), run, "tune", ", best")
        assert str(failed.value) == "it broke; the weights of step 4 are in my run, best"


def test_kinds_of_training_say_what_comes_after(tmp_path: Path) -> None:
    config, scratch = Config(data="d", model="m"), PretrainConfig(data="d")
    masked, other = replace(config, objective="mdlm"), replace(scratch, objective="mdlm")
    each_kind = (config, scratch, replace(config, objective="reward"))
    assert [kind_of(each) for each in each_kind] == [TUNE, PRETRAIN, REWARD] == list(KINDS)
    for kind, given, after in (
        (TUNE, config, "likely diff m out TEXT"), (TUNE, masked, "likely fill TEXT -M m -A out"),
        (TUNE, replace(masked, kind="full"), "likely fill TEXT -M out"),
        (PRETRAIN, scratch, "likely chat -M out"), (PRETRAIN, other, "likely fill TEXT -M out"),
    ):  # fmt: skip
        assert (kind_of(given), look_at(given, "out")) == (kind, after)
    full = replace(config, kind="full")
    results = [chat_with(config, str(tmp_path)), chat_with(full, str(tmp_path)), chat_with(scratch, "out")]
    assert results == [("m", str(tmp_path)), None, ("out", "")] and chat_with(other, "out") is None
    (tmp_path / "config.json").write_text("{}")  # the whole model is there
    assert chat_with(full, str(tmp_path)) == (str(tmp_path), "")


# -- searches --------------------------------------------------------------------------------------------------------


def point(rank: int, rate: float, loss: float, failed: str = "") -> SearchPoint:
    estimate = Estimate(loss, 0.125, 2, n=3)
    return SearchPoint({"rank": rank, "rate": rate}, estimate, Estimate(0.755, 0.1), failed)


POINTS = (
    point(4, 0.1, 2.0), point(8, 0.1, 1.0), point(4, 0.01, 3.0, "out of\nmemory"), point(8, 0.01, 1.5),
    point(16, 0.1, 1.25),
)  # fmt: skip
GRID: Any = SimpleNamespace(values={"rank": (4, 8, 16), "rate": (0.1, 0.01)}, folds=3, points=POINTS)
RESULT = SearchResult(GRID, POINTS, POINTS[1], POINTS[1])


def test_a_search_is_a_table_an_option_in_bits() -> None:
    """The best point of each value, its error, a bar of how far it is above the least, and which is chosen."""
    lines = list(tune_search.lines(RESULT))
    table = [[float(each) for each in re.findall(r"[\d.]+", line)][:4] for line in lines if "±" in line and "%" in line]
    best = {4: 2.0, 8: 1.0, 16: 1.25, 0.1: 1.0, 0.01: 1.5}
    nat = 1 / math.log(2)
    assert table == [pytest.approx([value, loss * nat, 0.125 * nat, 75.5], abs=1e-4) for value, loss in best.items()]
    bars = [line.count("█") for line in lines]
    assert bars == [0, 24, 1, 6, 0, 1, 24, 0] and [line.endswith("least, chosen") for line in lines].count(True) == 2
    assert "within one standard error (1.6230) the simplest is rank 8, rate 0.1" in lines[-1]
    lines = list(tune_search.lines(replace(RESULT, chosen=POINTS[0])))
    assert lines[1].endswith("chosen") and "least" in lines[2] and "out of memory" in lines[6]
    assert lines[-1].endswith("the simplest is rank 4, rate 0.1")
    assert not any("█" in line for line in tune_search.lines(replace(RESULT, points=POINTS[1:2])))


def test_a_search_becomes_one_training() -> None:
    words = ["tune", "r.jsonl", "--search", "g.toml", "--rank", "3", "--search=h.toml", "--screen"]
    assert tune_search.as_one_training(words, {"rank": 8, "too_long": "cut"}) == [
        "tune", "r.jsonl", "--rank", "3", "--screen", "--rank", "8", "--too-long", "cut", "--valid", "0",
    ]  # fmt: skip
