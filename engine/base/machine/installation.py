"""Installation: the command that adds packages to the environment that this program runs in.

pip, `uv tool` and pipx are told apart by the files that they leave there; nothing is run, and no index is asked.
"""

import json
import shlex
import shutil
import sys
from pathlib import Path

PROGRAM = "likely"


def adding(*packages: str) -> str:
    """The command that a person types to have these packages beside the program, as a shell takes it."""
    here = Path(sys.prefix)
    if (here / "uv-receipt.toml").is_file():  # uv makes a tool anew: what was beside it is named again
        beside = dict.fromkeys((*_with_uv(here / "uv-receipt.toml"), *packages))
        return shlex.join(["uv", "tool", "install", *(w for name in beside for w in ("--with", name)), _origin()])
    if (here / "pipx_metadata.json").is_file():
        return shlex.join(["pipx", "inject", PROGRAM, *packages])
    found = shutil.which("pip")
    pip = ["pip"] if found is not None and Path(found).parent == here / "bin" else [f"{sys.executable}", "-m", "pip"]
    return shlex.join([*pip, "install", *packages])


def _with_uv(receipt: Path) -> list[str]:
    """The packages that `uv tool install --with` put beside the program."""
    import tomllib  # an error's imports are not the start's

    try:
        names = [each["name"] for each in tomllib.loads(receipt.read_text(encoding="utf-8"))["tool"]["requirements"]]
    except (OSError, ValueError, LookupError, TypeError):
        return []
    return [str(name) for name in names if name != PROGRAM]


def _origin() -> str:
    """Where the program came from: a folder (PEP 610) that is still there, or the index by its name."""
    from importlib.metadata import PackageNotFoundError, distribution
    from urllib.parse import unquote, urlparse

    try:
        url = urlparse(json.loads(distribution(PROGRAM).read_text("direct_url.json") or "{}").get("url", ""))
    except (PackageNotFoundError, ValueError, AttributeError):
        return PROGRAM
    folder = Path(unquote(url.path))
    return str(folder) if url.scheme == "file" and folder.exists() else PROGRAM
