"""Preflight: whether this machine and this Python can run likely, one line a question.

Nothing but the standard library, and nothing of ours: the Makefile runs it by whatever Python it finds, before anything
is installed. Knows nothing of models or of speed; `likely doctor` shows it above those.
"""

from __future__ import annotations  # an old Python too must come as far as the line that says it is old

import os
import platform
import stat
import subprocess
import sys
import sysconfig
from dataclasses import dataclass
from pathlib import Path

OLDEST_PYTHON = (3, 11)
OLDEST_MACOS = 14  # mlx's wheels are built for it


@dataclass(frozen=True)
class Host:
    """Facts of a machine that the questions are about."""

    system: str  # Darwin | Linux
    machine: str  # that this Python was built for
    apple_silicon: bool  # the chip, whatever this Python was built for
    macos: str  # "" elsewhere
    python: tuple[int, int, int]
    executable: str
    hidden: tuple[str, ...] = ()  # .pth files that Python passes over because macOS has hidden them


@dataclass(frozen=True)
class Check:
    """The answer to one question; where it is not `fine`, `line` says what to do."""

    name: str
    fine: bool
    line: str


def inspect() -> Host:
    """The facts of this machine and of the Python that runs."""
    mac = platform.system() == "Darwin"
    return Host(
        system=platform.system(),
        machine=platform.machine(),
        apple_silicon=mac and _output("/usr/sbin/sysctl", "-n", "hw.optional.arm64") == "1",
        macos=(_output("/usr/bin/sw_vers", "-productVersion") or platform.mac_ver()[0]) if mac else "",
        python=(sys.version_info[0], sys.version_info[1], sys.version_info[2]),
        executable=sys.executable,
        hidden=hidden(Path(sysconfig.get_paths()["purelib"])) if mac else (),
    )


def checks(host: Host) -> list[Check]:
    """The questions that matter on this system, with their answers."""
    results = [_processor(host), _macos(host)] if host.system == "Darwin" else []
    results.append(_python(host))
    if host.hidden:
        names = ", ".join(host.hidden)
        results.append(
            Check(
                "environment",
                False,
                f"macOS has hidden {names}, so Python passes over what it installs: "
                f"chflags -R nohidden {sys.prefix!r}, or make clean and make chat outside of iCloud's folders",
            )
        )
    return results


def hidden(packages: Path) -> tuple[str, ...]:
    """The .pth files of a site-packages that carry the hidden flag, which site skips (cpython issue 148121)."""
    flag = getattr(stat, "UF_HIDDEN", 0)
    files = sorted(packages.glob("*.pth"))
    return tuple(file.name for file in files if getattr(os.lstat(file), "st_flags", 0) & flag)


def _processor(host: Host) -> Check:
    if host.machine == "arm64":
        return Check("processor", True, "Apple Silicon, and a Python for it")
    if host.apple_silicon:
        line = (
            f"{host.executable} is an Intel Python, run by Rosetta: mlx needs one for Apple Silicon. Install it "
            "(python.org, or brew install python with the brew of /opt/homebrew); where it is there already, this "
            "terminal runs under Rosetta: arch -arm64 make chat"
        )
        return Check("processor", False, line)
    return Check("processor", False, "this Mac has an Intel processor: mlx needs Apple Silicon (M1 or later)")


def _macos(host: Host) -> Check:
    major = host.macos.partition(".")[0]
    if major.isdigit() and int(major) >= OLDEST_MACOS:
        return Check("macOS", True, host.macos)
    line = (
        f"macOS {host.macos or 'of an unknown version'}: mlx needs {OLDEST_MACOS} or later; update in System Settings"
    )
    return Check("macOS", False, line)


def _python(host: Host) -> Check:
    version, oldest = ".".join(map(str, host.python)), ".".join(map(str, OLDEST_PYTHON))
    if host.python >= OLDEST_PYTHON:
        return Check("Python", True, f"{version} at {host.executable}")
    line = f"{host.executable} is Python {version}: {oldest} or later is needed (python.org, brew install python)"
    return Check("Python", False, line)


def _output(*command: str) -> str:
    """Output of a system command, "" where it fails. Asked for the macOS version: an old Python says 10.16 for all."""
    environment = {**os.environ, "SYSTEM_VERSION_COMPAT": "0"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=5, env=environment)
    except (OSError, subprocess.SubprocessError):
        return ""
    return done.stdout.strip()


def main() -> int:
    """Print what is wrong, a line each; the exit code says whether anything is."""
    wrong = [check for check in checks(inspect()) if not check.fine]
    for check in wrong:
        print(f"likely: {check.line}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
