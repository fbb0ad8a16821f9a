"""The options of `likely chat` on a full screen in a real terminal: a conversation is kept as it was asked for."""

import shlex
import sys
from pathlib import Path

import pytest

from likely.app.store.store import Store
from likely.engine.base.errors import LikelyError
from likely.engine.chat.conversation import Conversation
from likely.engine.sampling.presets import ORDERS
from likely.engine.sampling.transforms import Temperature, TopK
from tests.support import bigram, tmux
from tests.support.tmux import Tmux

ROOT = Path(__file__).parents[2]
ASKED = "--temp 0.3 --top-k 5 --order llama.cpp --system S --seed 7 -m 9"


@pytest.mark.slow(10)
@pytest.mark.skipif(tmux.MISSING, reason="tmux is not installed")
def test_all_the_options_of_a_chat_reach_its_screen(tmp_path: Path) -> None:
    table = bigram.random_table(0)
    table[:, bigram.EOS] = -50.0  # an answer is as long as it may be
    bigram.write(tmp_path / "tiny", table)
    given = (
        f"LIKELY_HOME={tmp_path}/home PYTHONPATH={ROOT} OPENBLAS_NUM_THREADS=1 TERM=xterm-256color LIKELY_THEME=dark"
    )

    def talk() -> Conversation | None:
        try:
            store = Store(tmp_path / "home" / "sessions.db")
            kept = [store.load(each.id) for each in store.sessions()]
            store.close()
        except (LikelyError, OSError):
            return None
        return next((each for each in kept if each.leaf is not None and each.leaf.finish == "length"), None)

    terminal = Tmux(tmp_path)
    try:
        terminal.run(f"{given} {shlex.quote(sys.executable)} -m likely.app chat -M ./tiny {ASKED}")
        terminal.keys("hello", "Enter")  # before there is a screen
        terminal.until(lambda _: talk() is not None, "an answer that is kept")
    finally:
        terminal.close()
    found = talk()
    assert found is not None and found.leaf is not None
    assert (found.leaf.seed, found.system, len(found.leaf.steps)) == (7, "S", 9)
    assert {Temperature(0.3), TopK(5)} <= set(found.recipe.transforms)
    assert found.order == tuple(kind.__name__ for kind in ORDERS["llama.cpp"])
