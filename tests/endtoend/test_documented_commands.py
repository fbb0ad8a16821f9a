"""Every command of README and of the pages in docs/, run as it is written there.

A page has a folder of its own with the files that it names (`tests.support.desk`), and its commands run in the order
in which they stand, as a reader types them: what one writes the next may read. Models are tiny and random, so answers
mean nothing; that every command ends well and says something is what is tested. `NOT_HERE` says what does not run, and
why.
"""

import re
import shlex
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from likely.app.cli import likely

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
SCREEN = "takes the whole terminal"
MINUTES = "takes minutes"
FOREVER = "runs until it is stopped"
SEVERAL = "several processes or machines"
THINKS = "needs a model whose chat template can be told to think"
TOOLS = "waits for a yes, or for a model with room for what is said of tools: test_tools.py, test_tool_questions.py"
OUTSIDE = "installs or fetches"
SHORTER = "takes seven to twelve seconds: test_contracts.py, test_effects.py and test_tune.py run it with less to do"
NOT_HERE = {  # what a command begins with -> why it does not run in this test
    "make chat": SCREEN,
    "make test": MINUTES,
    "likely chat --adapter": SCREEN,
    "likely chat --server": SCREEN,
    "likely chat --rope": SCREEN,
    "likely learn my-course": SCREEN,
    "likely serve": FOREVER,
    "likely pretrain novels/ --screen": SCREEN,
    "likely pretrain novels/ --size": MINUTES,
    "likely pretrain novels/ --out mine --resume": MINUTES,
    "likely pretrain novels/ --tokenizer bytes": MINUTES,
    "likely pretrain novels/ --objective": MINUTES,
    "likely tune problems.jsonl --objective reward": MINUTES,
    "likely tune arithmetic:items=400,size=2 --objective reward": MINUTES,
    "likely tune gsm8k.toml --objective reward": MINUTES,
    "likely scale toy": MINUTES,
    "likely estimate curve rows.jsonl": SHORTER,
    "likely tune table.csv --map": SHORTER,
    "likely quantize one --bits all": SHORTER,
    "likely tune rows.jsonl --test held.jsonl": SHORTER,
    "likely bench": MINUTES,
    "likely pull": OUTSIDE,
    "mlx.launch": SEVERAL,
    'likely run "What is 17 * 23?" --tools': TOOLS,
    "likely eval tools": TOOLS,
    'likely run "What is in these files?" --tools': TOOLS,
    'likely run "How many r in strawberry?" --think': THINKS,
}
BARE = ("likely", "likely learn")  # as they stand: each opens its screen
TYPED = {"likely chat --plain": "Hi\n"}  # on standard input


def commands(page: Path) -> list[str]:
    """The commands in the indented blocks of a page; what is said of them comes after two blanks or a #."""
    lines = [
        line[4:] for line in page.read_text().splitlines() if re.match(r"    (likely|mlx\.launch|make)( |$)", line)
    ]
    return [re.split(r"\s{2,}|\s#\s", line)[0] for line in lines]


def runs(command: str) -> bool:
    return command not in BARE and not any(command.startswith(start) for start in NOT_HERE)


def test_every_page_has_its_commands_found() -> None:
    found = {page.name: commands(page) for page in PAGES}
    assert sum(map(len, found.values())) > 70 and len(found["README.md"]) > 8


def test_what_does_not_run_here_stands_on_a_page() -> None:
    every = [command for page in PAGES for command in commands(page)]
    assert [start for start in NOT_HERE if not any(command.startswith(start) for command in every)] == []


@pytest.mark.slow(40)
@pytest.mark.parametrize("page", [page for page in PAGES if any(map(runs, commands(page)))], ids=lambda page: page.stem)
def test_commands_do_what_they_say(page: Path, desk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    failed = []
    for command in filter(runs, commands(page)):
        name, *words = shlex.split(command)
        assert name == "likely"
        monkeypatch.setattr(sys, "argv", [name, *words])
        result = CliRunner().invoke(likely, words, input=TYPED.get(command, ""))
        if result.exit_code or not result.output:
            failed.append(f"{command}\n    {result.exception or ''}\n    {result.output[-300:]}")
    assert not failed, "\n".join(failed)
