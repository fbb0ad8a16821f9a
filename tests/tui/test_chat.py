"""What tests of other views still take from here."""

from threading import Event

from tests.support.model import ScriptedEngine

ASK = "Why is the sky blue?"


def held(engine: ScriptedEngine, at: int) -> None:
    """Make the engine wait before a token until it is told to go on, or its run is cancelled."""
    engine.gate = Event()  # type: ignore[attr-defined]

    def pace(drawn: int) -> None:
        if drawn == at:
            engine.gate.wait(5)  # type: ignore[attr-defined]

    engine.pace = pace
