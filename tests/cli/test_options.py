"""Rules between options: what would be ignored is refused by its name, before a model is looked for, and no more."""

import re
import shlex
from pathlib import Path

import click
import pytest

from likely.app.cli import VERBS
from likely.app.cli import likely as program
from likely.app.cli.options import rules
from tests.cli.conftest import Likely

WRONG = """
explain: t --formula !--top 3 | t !--samples 3 | t !--attention | t --json !--attention --activation-bits 8
run: p !--xtc-threshold 0.2 | p --xtc-probability 0 !--xtc-threshold 0.2 | p --temp 0 !--dynatemp-range 0.2
run: --replay f !--seed 3 | p --steps 3 !--beam 2 | p --steps 3 !--answers 2 | p --activation-bits 8 !--kv-bits 8
run: --replay x !--special | --replay x !--raw | x --preset greedy !--dynatemp-range 1
run: p --resample --regex a !--choice b | p !--resample | p --resample --regex a !--temp 0.5 -n 2
run: p --activation-bits 8 !--parallel tensor | p !--dry-base 2 | p !--mirostat-eta 0.2
run: p !--repetition-context-size 3
fill: t --nbest 2 !--steps 3 | t --mcmc 2 !--save s | t --replay f !--seed 1 | t --mcmc 2 !--noise cosine
fill: a !--nbest 0 | a --nbest 1 !--mcmc 1
chat: --plain --activation-bits 8 !--parallel tensor | --server u !--activation-bits 8
chat: !--stop x | --plain !--resume i | --plain !--server u | !--server-key k | --server u !--system s
fuse: a -o o !--group-size 32 | a -o o --bits 16 !--group-size 32 | a --peft p !--rows 2 | a --lora l !--json
fuse: adapter --peft x !--bits 4 | adapter --out x !--group-size 32 | a --peft p !--data d | a --peft p !--force
fuse: a --lora l !--gguf f16 | a !--rows 0 | a -o o.gguf !--bits 4 | a -o o !--gguf f16
quantize: m --gguf f16 !--bits 3 | m --gguf f16 !--awq | m --gguf f16 !--recipe mixed_3_6 | m --gguf f16 !--group 32
reason: q !--beams 3 | q !--alpha 2 | q !--bits 2 | q !--scorer p-true | q !--timeout 3 | q !--verifier v
reason: q !--limit 3 | q !--analyse | q --method best --verifier v !--scorer s | q --method reflect !--scorer s
reason: q --method best !--confidence 0.5 | q -n 1 !--hopeless 0.5 | --file f !--confidence 0.5
reason: q --raw !--template plain | q !--step-end x | q !--hopeless nan | q !--confidence nan
models: --known !--default d | --known !--add .
tune: d --screen !--json | d --screen !--dry-run | d --search S !--resume | d --search S !--screen
pretrain: d --screen !--json | d --screen !--dry-run
eval: t !--items | t !--variants 2 | t !--paraphraser p | --text f !--judge j | --text f !--vary typos
eval: --generated f --reference f !--seed 1 | --compare !--limit 3 | --text x !--shots 4 | --text f !--cluster c
eval: --text f !--calibrate-on f | --generated f --reference f !--by c | --compare !--fresh | arithmetic !--limit 0
eval: --text f !--paths 1 | --compare !--activation-bits 8 | --generated f --reference f !--activation-bits 8
inside: t !--against 3 | t !--centred | --sum s !--centred | t !--output | t --heads !--without-first | t !--keep k
inside: t --json --target x !--sum s | t --json --target x !--importance
inside: t !--tuned | t !--away b | t !--layer 0 | t !--direction d | t !--part mlp
synth: S --generations 1 !--report | S --generations 1 !--effect
bench: kernels !--rounds 3 | !--case c | model !--case c | kernels !--against mlx-lm | kernels !--answers 2
bench: kernels !--tokens 2 | !--contexts 0 | !--rounds 1 | !--tokens 1
posterior: laplace a !--draws 0 | laplace a !--draws 101 | laplace a !--prior-precision 0 | laplace a !--seed -1
posterior: swag a !--steps 1 | swag a !--rate 0 | laplace a !--prior-precision nan
estimate: curve f !--seeds 0 | curve f !--seeds 101 | curve f !--next 0 | bound . --trained f !--delta 1
estimate: bound . --trained f !--draws 0
scale: fit f !--refits 99 | show f --svg s !--rate 0 | run f !--within 0 | toy quanta !--seeds 1
scale: toy quanta !--alpha 1.6
diff: a b T !--top 51
"""  # verb: calls, each with the option that it is refused for behind a !
TOLD = """
explain t --formula -c x | --candidate
run --replay f -M m | --model
bench kernels -M m | --model
tune rows --kind full --rank 4 | rank
tune rows --beta 0.2 | beta
tune rows --epochs 1 --steps 2 | epochs
run p --activation-bits 8 --kv-bits 8 | --kv-bits
posterior ensemble a | OTHERS
estimate curve f --sizes 1,x | whole numbers with commas between them such as 20,40,80, got '1,x'
scale fit f --budget 0 | takes floating-point operations above 0 such as 1e18, got
scale show f --seed 1 | --seed is of a file: add --svg, --png or --html
inside t --attention 3 | a head is named LAYER.HEAD, as in 3.0
inside t --attention 1.2.3 | a head is named LAYER.HEAD, as in 3.0
bench -n 257 | --answers
reason Q --confidence 1.5 | confidence
reason Q --hopeless -1 | hopeless
reason Q --file f | QUESTION
eval t.jsonl --stride 4 | --stride is of texts
eval t.jsonl --window 512 | --window is of texts
eval t.jsonl --positions | --positions is of texts
eval t.jsonl --temp 1 | --temp is of tasks whose answers are drawn
eval t.jsonl --difference 0.1 | --difference is between two models
eval --text f --by source | --by is of TASKS
tune r.jsonl --out o --map answr=answer | no row has a column answr; got answer, frage, prompt
tune r.jsonl --out o --search s.toml --map answr=answer | no row has a column answr; got answer, frage, prompt
eval r.jsonl -M m --map answr=answer | no row has a column answr; got answer, frage, prompt
reason --file r.jsonl -M m --map answr=answer | no row has a column answr; got answer, frage, prompt
estimate curve r.jsonl -M m --map answr=answer | no row has a column answr; got answer, frage, prompt
synth r.toml --map answr=answer | no row has a column answr; got answer, frage, prompt
"""  # a call | what it is told
FINE = """
explain: t --formula | t --formula --json -c x --top 3 | t -A a --samples 3 | t --json --attention
explain: t --activation-bits 8
run: p --xtc-probability 0.5 --xtc-threshold 0.2 | p --temp 0.5 --dynatemp-range 0.2 | --replay f --temp 0 --json
run: p --steps 3
fill: t --nbest 2 --whole | t --steps 3 --save s
chat: --plain --stop x | --server u --server-key k | --resume i
fuse: a -o o --bits 4 --group-size 32 | a --peft p -M m | a -o o --rows 2
quantize: m --bits 3 --awq | m --gguf f16 --text t
reason: q --method steps --beams 3 | q --method power --alpha 2 | q --method entropy --bits 2
reason: q --method best --scorer p-true | q --method best --verifier v --timeout 3 | q --confidence 0.5
reason: --file f --limit 3 --analyse --verifier v --scorer s | q --raw | q --template plain
reason: q --method steps --verifier v | --file f --hopeless 0.5
models: --known --json | --default d
tune: d --screen --resume | d --search S --dry-run
pretrain: d --screen
eval: t --json --items | t --vary typos --variants 2 | t --text f --shots 1
eval: --compare t --by c --positions --report r
inside: t --attribution --against 3 | t --patch p --against 3 --part mlp | --neighbours 0 --centred --output
inside: t --target x --sum s | t --json --target x --lens
inside: --sum s --output | --relations --output | t --attention 0.0 --without-first | t --rollout --without-first
inside: t --save s --keep k | t --lens --tuned | t --toward a --away b --layer 0 --direction d
synth: S --report --effect | S --generations 1
bench: --rounds 3 -M m | kernels --case c --json
"""

OFFERED = """
inside t | --patch --json | --against --part
inside t --patch x | --against --part --svg | --centred --output
inside t --json | --lens | --csv --svg
inside t --chat | --lens | --raw --spellings
inside t --toward a --against 3 | --away --patch --attribution |
run p --beam 2 | --groups --length-penalty | --exact-mode --stochastic-beam --steps --diversity
run p --temp 0 --replay f | --json --top-p | --system --beam --dynatemp-range
run p --answers 3 | --temp --choice | --replay --steps
run p --regex a | --resample | --json-schema --choice
fill t --nbest 2 | --whole | --mcmc --save --noise
reason q --method steps | --beams --verifier | --alpha --confidence --timeout
reason q --paths 1 | --method | --hopeless
eval t | --json --vary | --items --variants
eval t --limit 3 --json | --items | --compare
bench kernels | --case --json | --rounds
scale show f | --svg | --seed --map
estimate bound a --trained f | --posterior --draws |
"""  # a line so far | what a shell offers next | what it does not


@pytest.fixture(autouse=True)
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LIKELY_MODEL", raising=False)
    for name in ("f", "S"):
        (tmp_path / name).write_text("")
    rows = (f'{{"frage": "q", "prompt": "{i}", "answer": "a"}}\n' for i in range(16))
    (tmp_path / "r.jsonl").write_text("".join(rows))
    (tmp_path / "s.toml").write_text("[grid]\nrank = [1, 2]\n")
    (tmp_path / "r.toml").write_text('[generate]\nmethod = "augment"\ndata = "r.jsonl"\n')
    (tmp_path / "t.jsonl").write_text('{"good": "a", "bad": "b"}\n')


def calls(table: str) -> list[str]:
    """Of `verb: words | words`, a line each."""
    lines = (line.partition(":") for line in table.strip().splitlines())
    return [f"{verb} {words.strip()}" for verb, _, several in lines for words in several.split(" | ")]


def test_an_option_that_would_be_ignored_is_refused_by_name(likely: Likely) -> None:
    wrong = [(call.replace("!", ""), re.findall(r"!(\S+)", call)[0]) for call in calls(WRONG)]
    for call, line in [*wrong, *(line.split(" | ") for line in TOLD.strip().splitlines())]:
        code, out, err = likely(*shlex.split(call))
        assert code in (1, 2) and not out and line in err.splitlines()[-1], (call, err)


def test_no_other_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    for call in calls(FINE):
        verb, *words = call.split()
        command = program.get_command(click.Context(program), verb)
        assert command is not None
        rules.check(command.make_context(verb, words))
    monkeypatch.setenv("LIKELY_MODEL", "m")  # of the environment: none that was given
    bench = program.get_command(click.Context(program), "bench")
    assert bench is not None
    rules.check(bench.make_context("bench", ["kernels"]))


def test_a_shell_offers_what_would_not_be_refused(likely: Likely, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_LIKELY_COMPLETE", "bash_complete")
    for words, can, cannot in (line.split("|") for line in OFFERED.strip().splitlines()):
        monkeypatch.setenv("COMP_WORDS", f"likely {words}--")
        monkeypatch.setenv("COMP_CWORD", str(len(words.split()) + 1))
        offered = {line.removeprefix("plain,") for line in likely().out.splitlines()}
        assert offered >= {*can.split()} and not offered & {*cannot.split()}, (words, offered)


def test_words_of_elsewhere_are_understood(likely: Likely) -> None:
    """A verb by another word is the verb; the oracle is what the verb itself says."""
    for words, same in (
        (("train", "--help"), ("tune", "--help")), (("ls", "--json"), ("models", "--json")), (("help",), ("--help",)),
        (("help", "fuse"), ("fuse", "--help")), (("version",), ("--version",)),
    ):  # fmt: skip
        assert likely(*words) == likely(*same) and likely(*words).code == 0
    assert "Did you mean fuse --out (an adapter in its model) or quantize --gguf" in likely("export", "x").err
    assert "Did you mean tune" in likely("tunr").err
    for words in (("-M", "m"), ("smollm2",), ("hello there",)):  # before or without a verb
        code, _, err = likely(*words)
        assert code == 2 and "likely run" in err and "likely chat -M MODEL" in err, words
    for words in (("--lr", 0.1, "--rate", 0.2), ("--learning-rate", 3, "--rate", 0.2)):
        assert "is called rate now: give one of them" in likely("tune", "rows.jsonl", *words).err


@pytest.mark.parametrize("verb", ["estimate", "posterior", "scale"])
def test_a_verb_of_several_commands_names_them_with_whole_sentences(verb: str, likely: Likely) -> None:
    code, out, err = likely(verb)
    assert code == 2 and not out and err.count("Usage:") == 1
    listed = likely(verb, "--help").out.partition("Commands:")[2]
    assert "..." not in listed
    named = re.search(r"Error: say which: (.*)", err)
    assert named is not None and named[1].split(", ") == re.findall(r"^  (\w+)  ", listed, re.M)


def test_help_shows_the_everyday_first_and_everything_when_asked(likely: Likely) -> None:
    everyday, _, lab = likely("--help").out.partition("Everyday:")[2].partition("Lab:")
    assert "  tune " in everyday and "  posterior " in lab and all(f"  {verb} " in everyday + lab for verb in VERBS)
    short, long = (
        set(re.findall(r"^  (?:-., )?(--[\w-]+)", likely("tune", flag).out, re.M)) for flag in ("--help", "--help-all")
    )
    assert "--rank" in short and short - {"--help-all"} < long and "--lora-plus-ratio" in long - short
    assert f"Show the other {len(long - short)} options too." in likely("tune", "--help").out


def test_help_says_with_what_a_flag_goes(likely: Likely) -> None:
    for verb, *lines in (
        ("inside", "not the answer. Goes with --attribution or --patch.", "of the head instead of the input embedding. "
         "Goes with --neighbours or --sum or --relations."),
        ("reason", "prints a number. Goes with --method best or steps or --analyse.", "kept. Goes with --method"),
        ("fuse", "Goes with --bits 2 or 3 or 4 or 5 or 6 or 8."),
        ("eval", "Variations of each kind. Goes with --vary."),
        ("tune", "Rank of the adapter; 0: by the data, 8, 16 or 32. Goes with kind = lora or dora. [default: 0]"),
    ):  # fmt: skip
        for _ in range(2):  # it is said once
            said = " ".join(likely(verb, "--help-all").out.split()).replace("- ", "-")
            assert [said.count(line) for line in lines] == [1] * len(lines), verb


@pytest.mark.parametrize("option", ["--out", "--peft"])
def test_fuse_writes_only_into_a_folder_of_its_own(option: str, tmp_path: Path, likely: Likely) -> None:
    """Said before an adapter is looked for, and what is there is untouched."""
    file, folder = tmp_path / "file", tmp_path / "model"
    folder.mkdir()
    for path in (file, folder / "model.safetensors"):
        path.write_text("kept")
    for place, words in ((file, "is a file"), (folder, "is not empty"), ("", "takes the name of a folder")):
        code, _, err = likely("fuse", "adapter", option, place)
        assert code == 1 and words in err and option in err and err.count("\n") == 1
    assert file.read_text() == (folder / "model.safetensors").read_text() == "kept"
    assert len(list(folder.iterdir())) == 1


def test_every_default_is_said(likely: Likely) -> None:
    """An option with a default says which in its help, or that it has one."""
    silent = []

    def look(command: click.Command, name: str) -> None:
        if isinstance(command, click.Group):
            for each, inner in command.commands.items():
                look(inner, f"{name} {each}")
            return
        for param in command.params:
            if not isinstance(param, click.Option) or param.is_flag or param.hidden:
                continue
            has = (isinstance(param.default, str | int | float) and param.default not in ("", 0)) or param.show_default
            if has and not param.show_default and "efault" not in (param.help or ""):
                silent.append(f"{name} {param.opts[0]}")

    for verb in VERBS:
        command = program.get_command(click.Context(program), verb)  # type: ignore[attr-defined]
        assert command is not None
        look(command, verb)
    assert silent == []
    shown = likely("estimate", "curve", "--help").out
    assert "[default: 3; " in shown and "[default: estimate]" in shown and "[default: 100; " in shown
