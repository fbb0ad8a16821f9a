"""Entry point of the program: `likely` where it is installed, `python -m likely.app` anywhere.

The command line takes a tenth of a second to import and hears signals after that. Knows nothing of verbs.
"""

import gc
import signal


def main() -> None:
    """Run the command line. Ctrl+c while it is still being imported ends the process without a word of Python's."""
    if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    gc.disable()  # what modules make stays
    from likely.app import cli

    gc.freeze()
    gc.enable()
    cli.main()


if __name__ == "__main__":
    main()
