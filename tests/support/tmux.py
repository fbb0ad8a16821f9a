"""A real terminal: a pane of tmux, for tests that have to see what a person sees.

It waits for what is to be seen, however long a busy machine takes (`PATIENCE_S` is for what never comes). Knows nothing
of the program.
"""

import os
import shutil
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

PATIENCE_S = 90
MISSING = shutil.which("tmux") is None


class Tmux:
    """A shell in a pane of a tmux server of its own, in `folder`."""

    def __init__(self, folder: Path, width: int = 120, height: int = 40) -> None:
        self.socket = f"likely-{os.getpid()}-{folder.name}"
        self.folder = folder
        self.tmux(
            "new-session", "-d", "-s", "t", "-x", f"{width}", "-y", f"{height}", "-c", str(folder), "env PS1='$ ' sh"
        )

    def tmux(self, *arguments: str) -> str:
        """What tmux prints for a command of its own."""
        done = subprocess.run(["tmux", "-L", self.socket, *arguments], capture_output=True, text=True, check=False)
        return done.stdout

    def run(self, command: str) -> None:
        """Type a command, and enter."""
        self.keys(command, "Enter")

    def keys(self, *keys: str) -> None:
        """Press keys by tmux's names of them; what is no name is typed."""
        self.tmux("send-keys", "-t", "t", *keys)

    def screen(self) -> str:
        """What is seen."""
        return self.tmux("capture-pane", "-t", "t", "-p")

    def until(self, condition: Callable[[str], object], what: str) -> str:
        """The screen once the condition holds of it."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            screen = self.screen()
            if condition(screen):
                return screen
            time.sleep(0.1)
        raise AssertionError(f"never seen: {what}\n{self.screen()}")

    def close(self) -> None:
        self.tmux("kill-server")
