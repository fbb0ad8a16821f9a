"""The module that a child runs: `likely serve` with the same options, that ends when its standard input does.

Whoever starts it holds the other end: however they end, killed too, the server does not outlive them.
"""

import os
import signal
import sys
from threading import Thread
from time import sleep

PATIENCE_S = 5.0  # for what is being answered


def _end_with_input() -> None:
    while os.read(0, 4096):
        pass
    os.kill(os.getpid(), signal.SIGTERM)
    sleep(PATIENCE_S)
    os._exit(1)


if __name__ == "__main__":
    from likely.app.cli import likely

    Thread(target=_end_with_input, daemon=True).start()
    likely(["serve", *sys.argv[1:]])
