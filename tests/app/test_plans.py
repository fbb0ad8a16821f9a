"""Plans of the verbs: every default, and every option, as it arrives where a verb hands over what was asked."""

import re
import sys
from pathlib import Path

import pytest

from tests.app.boundaries import VERBS, Boundaries, Refused
from tests.pictures import assert_picture

CALLS: dict[str, list[str]] = {
    "run": [
        "PROMPT",
        "PROMPT --json --special -q --save x.jsonl --max-tokens 9 --stop a --stop b --seed 3 -n 4 --eos 5 --eos 6",
        "PROMPT --raw --prefill ab --temp 0.5 --logit-bias 3=-1.5",
        "PROMPT --system s -A f=0.5 -M m",
        "PROMPT --preset precise --order llama.cpp --top-k 7",
        "PROMPT --kv-bits 8 --kv-budget 1.5 --prefix-cache --ngram",
        "PROMPT --kv-budget inf",
        "PROMPT --draft-model d -n 1",
        "PROMPT --strategy power",
        "PROMPT --activation-bits 8",
        "PROMPT --beam 6 --length-penalty 0.5 --early-stopping never -n 2",
        "PROMPT --beam 6 --groups 2 --diversity 0.25",
        "PROMPT --beam 6 --groups 2",
        "PROMPT --stochastic-beam 3",
        "PROMPT --exact-mode",
        "PROMPT --exact-mode --budget 9",
        "PROMPT --regex a+",
        "PROMPT --choice a",
        'PROMPT --json-schema {"type":"null"}',
        "PROMPT --json-schema schema.json",
        "--replay one.txt --json --temp 0",
        "PROMPT --steps 16 --prefill ab -m 64",
        "PROMPT --steps 16",
        "PROMPT --eos 258",
        "PROMPT --eos 257",
        "PROMPT -n 300",
        "PROMPT --logit-bias a=1",
        "PROMPT --logit-bias -1=1",
        "PROMPT --logit-bias 2147483648=1",
        "PROMPT --logit-bias 2147483647=nan",
        "PROMPT --stop=",
        "PROMPT --beam 2 --temp 0",
        "PROMPT --beam 2 --exact-mode",
        "PROMPT --budget 3",
        "PROMPT --groups 2",
        "PROMPT --diversity 1",
        "PROMPT --regex a --choice b",
        "PROMPT --ngram --beam 2",
        "PROMPT --raw --system s",
        "",
        "PROMPT --save nowhere/x.jsonl",
        "PROMPT --save .",
    ],
    "fill": [
        "a",
        "a --json -q --save x.jsonl --whole --steps 3 --temp 0.5 --seed 2",
        "a --nbest 3",
        "a --mcmc 4 --seed 1 --json",
        "a --nbest 0",
        "a --nbest 100001",
        "a --nbest 1 --mcmc 1",
        "--replay one.txt",
        "a --replay one.txt",
        "a --block 8",
    ],
    "chat": [
        "",
        "--plain --system s -m 7",
        "--plain --stop x --temp 0 --seed 3",
        "--resume id",
        "--temp 0.5",
        "--order llama.cpp",
        "--system s",
        "--seed 0",
        "-m 5",
        "--logit-bias 3=1",
        "--preset precise",
        "--server 127.0.0.1:9",
        "-A f=2 -M m",
        "--plain -M m",
        "--parallel tensor",
    ],
    "reason": [
        "Q",
        "Q -n 3 --method best --scorer logprob --seed 4",
        "Q --method power",
        "Q --method reflect",
        "Q --method steps",
        "Q --method steps --beams 5 --step-end .\\n",
        "Q --method power --alpha 2.5 -n 2",
        "Q --method entropy --bits 1.5",
        "Q --confidence 0.95 --hopeless 0.1",
        "Q --method best --verifier true --timeout 2.5",
        "Q --template plain --extract line",
        "Q --raw --json",
        "--file one.txt --limit 2 --analyse --json",
        "Q --file one.txt",
        "Q --method best --scorer p-true",
        "Q --confidence 0",
        "Q --confidence 1.5",
        "Q --hopeless -1",
    ],
    "serve": ["", "--quiet --only -M a --port 1 --running 3 --waiting 4 --memory 2.5"],
    "synth": ["one.toml", "one.toml --report --effect --json --seed 3 --out o", "one.toml --generations 2 -M m"],
    "fuse": [
        "adapter -o out",
        "adapter -o out.gguf",
        "adapter -o out.gguf --gguf q8_0 --force --json",
        "adapter -o out --bits 4",
        "adapter -o out --bits 4 --group-size 32 -d r --rows 2 -M m --json",
        "adapter --peft p",
        "adapter --lora l.gguf",
        "adapter",
        "adapter -o out --gguf f16",
        "adapter -o out.gguf --bits 4",
        "adapter --peft p --lora l",
        "adapter --rows 0",
    ],
    "quantize": [
        "m",
        "org/m.gguf --gguf q8_0",
        "m --bits 3 --group 32 --awq",
        "m --recipe mixed_3_6",
        "m --mode mxfp4",
        "m --to x",
        "m --gguf f16 --to x",
        "m --to x.gguf",
        "m --text one.txt --gguf f16 --to y.gguf",
    ],
    "bench": [
        "",
        "--rounds 2 --tokens 7 --contexts 1,2 -n 3 --json -M m",
        "--against mlx-lm",
        "kernels",
        "kernels --case gemm --json",
        "--contexts 0",
        "--contexts a",
        "--rounds 1",
        "--tokens 1",
        "-n 257",
        "-n 0",
    ],
    "diff": ["a b T", "a b T --chat --top 50 --metric js --json", "a b T --top 0", "a b T --top 51"],
    "models": ["", "--json", "--default x", "--add ."],
    "rm": ["m", "m --yes --shared"],
    "tune": [
        "r.jsonl",
        "r.jsonl --dry-run",
        "r.jsonl --json",
        "r.jsonl --rank 3 --out o --resume --no-packing",
        "r.jsonl --screen",
    ],
    "pretrain": ["t.txt", "t.txt --dry-run", "t.txt --json --size 1M --resume", "t.txt --screen"],
    "eval": [
        "arithmetic",
        "arithmetic -M a -M b --json --measure acc --seed 3 --limit 4 --shots 2 --cluster c --chat",
        "--text one.txt --window 64 --stride 32 --paths 8 --positions",
        "--text one.txt --prefix-token none",
        "--compare",
        "--compare --by c -M m --report r.html --difference 0.1",
        "--generated one.txt --reference one.txt --training one.txt",
        "--generated one.txt --reference one.txt -M m --json --measure x",
        "arithmetic --samples 4 --temp 0.5 --strategy power",
        "arithmetic --vary choices --variants 3 --paraphraser p --vary paraphrase",
        "arithmetic --draws 16 --fresh",
        "",
        "--generated one.txt",
        "arithmetic --generated one.txt --reference one.txt",
        "--generated one.txt --reference one.txt -M a -M b",
        "--generated one.txt --reference one.txt -A x",
        "arithmetic -M a --judge j",
        "--compare --fresh",
        "arithmetic --items",
        "arithmetic --variants 2",
        "--text one.txt --shots 1",
        "--training one.txt",
        "--text one.txt --by c",
        "arithmetic --difference 1",
        "arithmetic --window 2",
        "--text one.txt --window 1",
        "--text one.txt --stride 513",
        "--text one.txt --stride 512",
        "arithmetic --paths 2 --chat",
        "--text one.txt --paths 1",
        "--text one.txt --temp 0.5",
        "arithmetic -M a -A x -M b",
        "arithmetic --limit 0",
    ],
}
PLACE = re.compile(" at 0x[0-9a-f]+")


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Boundaries:
    monkeypatch.chdir(tmp_path)
    for name, text in (("one.txt", "text\n"), ("one.toml", ""), ("schema.json", '{"type": "null"}')):
        (tmp_path / name).write_text(text)
    monkeypatch.setattr(sys, "argv", ["likely", "words"])
    monkeypatch.setenv("LIKELY_HOME", str(tmp_path))
    monkeypatch.delenv("LIKELY_MODEL", raising=False)
    return Boundaries(monkeypatch)


def plans(made: Boundaries, verb: str) -> None:
    VERBS[verb](made)
    found = []
    for call in CALLS[verb]:
        plan = made.call(verb, call.split())
        lines = str(plan).splitlines() if isinstance(plan, Refused) else str(plan).splitlines()[:-2]
        told = [line for line in lines if line.strip() and not line.startswith(("Usage: ", "Try "))]
        found += [f"likely {verb} {call}".rstrip(), *(f"  {line}".rstrip() for line in told), ""]
    assert_picture(f"app/pictures/plans-{verb}.txt", PLACE.sub("", "\n".join(found).replace(str(Path.cwd()), "FOLDER")))


def test_of_answers(made: Boundaries) -> None:
    plans(made, "run")


def test_of_holes(made: Boundaries) -> None:
    plans(made, "fill")


def test_of_chats(made: Boundaries) -> None:
    plans(made, "chat")


def test_of_thoughts(made: Boundaries) -> None:
    plans(made, "reason")


def test_of_trainings(made: Boundaries) -> None:
    plans(made, "tune")
    plans(made, "pretrain")


def test_of_evaluations(made: Boundaries) -> None:
    plans(made, "eval")


def test_of_models(made: Boundaries) -> None:
    for verb in ("fuse", "quantize", "bench", "diff", "models", "rm"):
        plans(made, verb)


def test_of_the_rest(made: Boundaries) -> None:
    for verb in ("serve", "synth"):
        plans(made, verb)
