"""The manual page says what `--help` says, of every verb, and is sound to those who print it."""

import re
import shutil
import subprocess

import pytest
from click.testing import CliRunner

from likely.app.cli import VERBS, likely


def said(*args: str) -> str:
    done = CliRunner().invoke(likely, args, prog_name="likely")
    assert done.exit_code == 0, done.output
    return done.output


def test_every_verb_and_every_option_of_its_help_is_in_the_page() -> None:
    page = said("man").replace("\\-", "-")
    for verb in VERBS:
        assert re.search(rf'^\.SS "likely {verb}[ "]', page, re.M), verb
    for verb in ("run", "tune", "bench", "rm"):
        everything = ["--help-all"] if verb in ("run", "tune") else ["--help"]
        options = set(re.findall(r"^  (?:-\w, )?(--[a-z-]+)", said(verb, *everything), re.M)) - {"--help"}
        (part,) = re.findall(rf'^\.SS "likely {verb}[ "].*?(?=^\.S)', page, re.M | re.S)
        assert options, verb
        assert not [option for option in options if option not in part], verb


@pytest.mark.parametrize("tool", [["mandoc", "-T", "lint", "-W", "error"], ["groff", "-man", "-Tutf8", "-ww"]])
def test_printers_of_pages_have_nothing_to_say_against_it(tool: list[str]) -> None:
    if shutil.which(tool[0]) is None:
        pytest.skip(f"{tool[0]} is not installed")
    done = subprocess.run(tool, input=said("man"), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
