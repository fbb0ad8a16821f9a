"""The full screen. `run` opens it; everything else is reached from there.

No module in here imports mlx, nor one that does: models are loaded in the engine's thread (`bridge`), which imports
what it needs when it starts, so that the screen paints first.
"""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from app.tui.bridge import Shop


def run(model: str | None = None, resume: str | None = None, home: Path | None = None) -> int:
    """Open the chat with a model (None: the default) and, if named, a conversation. Gives the exit code.

    Says on the way out how to come back to the conversation that was open.
    """
    from app.tui.app import LikelyApp

    app = LikelyApp(lab_shop, home or data_home(), model=model or "", resume=resume or "")
    if left := app.run():
        print(f"likely chat --resume {left}")
    return app.return_code or 0


def lab_shop() -> "Shop":
    """The models of this machine. Called in the engine's thread: everything of mlx hangs on this import."""
    from app.shop import LabShop

    return LabShop()


def data_home() -> Path:
    """Where likely keeps its data, as `engine.store.home` says, which would be slow to import before the paint."""
    import os
    import sys

    if named := os.environ.get("LIKELY_HOME"):
        return Path(named).expanduser()
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Application Support" / "likely"
    return Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "likely"
