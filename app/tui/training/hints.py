"""Hints of a training's screen: which keys do what, by the state of the run. Plain data."""

from likely.app.tui.training.run import Training

Hint = tuple[str, str]
FORM: tuple[Hint, ...] = (
    ("⏎", "Start"), ("↑↓", "Field"), ("^t", "Kind"), ("^l", "Rows"), ("^r", "Resume"), ("esc", "Back"),
)  # fmt: skip
ASKING: tuple[Hint, ...] = (("⏎", "Ask"), ("esc", "The run: pause, stop, what moved"))


def of_run(training: Training | None, *, curves: bool, chats: bool) -> tuple[Hint, ...]:
    """The keys of a run; `curves`: they are in sight; `chats`: there is something to chat with."""
    state, kind = (training.state, training.kind) if training is not None else ("", None)
    base, drawn = kind is None or kind.base, kind is not None and kind.drawn
    beside = "Pass@k, answers" if drawn else "What moved" if base else "Bits, position, noise"
    back = () if curves else (("l", "Rewards" if drawn else "Loss"),)
    own: tuple[Hint, ...] = (*back, ("w", beside), ("t", "Try"))
    if state in ("training", "paused"):
        pausing = training is not None and training.control.paused
        own = (("space", "Go on" if pausing else "Pause"), ("s", "Stop and keep"), *own)
    elif state in ("ended", "failed"):
        more: tuple[Hint, ...] = (("c", "Go on"),) if training and training.unfinished else ()
        more += (("s", "Save"),) if state == "failed" else ()
        more += (("⏎", "Chat with it"),) if chats else ()
        own = (*more, *own, ("n", "New run"))
    own += (("^l", "Rows"), ("[ ]", "Problem" if drawn else "Prompt")) if base else ()
    return own + ((("z", "Closer"),) if curves else ())
