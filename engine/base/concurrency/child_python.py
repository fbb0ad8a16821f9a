"""Python as a child process: `command`, the one way in which this program starts it.

The child finds modules in the standard library, then in our folders, then among the installed packages. It looks
neither into the folder that it is started in nor into those of PYTHONPATH: whoever made them may have put a `json.py`
there, and it would be run. The child begins with this file, named by its path. Knows nothing of what is run in it.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

END_S = 10.0  # for a child to be gone once its output has ended, on a busy machine
LONGEST = 400  # characters of a line that is kept
FILE = Path(__file__).resolve()
# the folder that `import likely` finds: the clone, or the installed packages
ROOT = next(folder for folder in FILE.parents if (folder / "likely" / "__init__.py").is_file())


def command(module: str, *arguments: str) -> list[str]:
    """The command line of a child that runs a module, ours or an installed one, as `python -m` would."""
    alone = ["-s"] if sys.flags.no_user_site else []  # packages of the user's own, where we have them too
    return [sys.executable, "-E", "-P", "-S", *alone, str(FILE), module, *arguments]


def silence() -> None:
    """Send what a child writes to stderr from here on nowhere: nobody reads it, and an unread pipe fills up."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, 2)
    os.close(nowhere)


def how_it_ended(child: "subprocess.Popen[bytes]") -> str:
    """Why a child is gone whose output has ended, by the last line of its stderr, a pipe, or the system's word."""
    assert child.stderr is not None
    try:
        status = child.wait(END_S)
    except subprocess.TimeoutExpired:
        return "it closed its output and went on"
    lines = child.stderr.read().decode(errors="replace").split("\n")
    if complaint := next((line.strip() for line in reversed(lines) if line.strip()), ""):
        return complaint[:LONGEST]
    if status >= 0:
        return f"it left with status {status}"
    perhaps = ", for want of memory perhaps" if -status == signal.SIGKILL else ""
    return f"{signal.Signals(-status).name} ended it{perhaps}"


def resident(group: int) -> int:
    """Bytes of memory that the processes of a group hold, by `ps`; 0 where nobody says."""
    told = subprocess.run(["ps", "-axo", "pgid=,rss="], capture_output=True, text=True, check=False).stdout
    rows = [line.split() for line in told.splitlines()]
    return 1024 * sum(int(kib) for pgid, kib in rows if pgid == str(group))


if __name__ == "__main__":
    import runpy
    import site

    sys.path.append(str(ROOT))
    site.main()  # -S has left the packages out, so that they come last
    del sys.argv[0]
    runpy.run_module(sys.argv[0], run_name="__main__", alter_sys=True)
