"""Copying to the clipboard of the machine that the person sits at, and saying how it was done."""

import base64
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping

from likely.app.tui.base.input.terminal_codes import passed

COMMANDS = (("wl-copy",), ("xclip", "-selection", "clipboard"), ("xsel", "--clipboard", "--input"))


def copy(text: str, write: Callable[[str], None], environ: Mapping[str, str] | None = None) -> str:
    """Copy a text; gives the words for how. `write` sends an escape sequence to the terminal.

    Over ssh the terminal is asked (OSC 52), since a local command would copy on the wrong machine; on a Mac pbcopy
    does it, for Terminal.app ignores OSC 52. It reads what the locale says, and without one no UTF-8 (pbcopy(1)).
    """
    env = os.environ if environ is None else environ
    if not (env.get("SSH_CONNECTION") or env.get("SSH_TTY")):
        for command in [("pbcopy",)] if sys.platform == "darwin" else COMMANDS:
            needs = {"wl-copy": "WAYLAND_DISPLAY", "xclip": "DISPLAY", "xsel": "DISPLAY"}.get(command[0])
            if shutil.which(command[0]) and (needs is None or env.get(needs)) and _run(command, text):
                return f"copied with {command[0]}"
    code = f"\x1b]52;c;{base64.b64encode(text.encode()).decode()}\x07"
    write(passed(code, env))
    return "copied through the terminal (OSC 52), if it allows that"


def _run(command: tuple[str, ...], text: str) -> bool:
    env = os.environ | {"LC_ALL": "en_US.UTF-8"}
    try:
        done = subprocess.run(command, input=text.encode(), timeout=2, capture_output=True, check=False, env=env)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return done.returncode == 0
