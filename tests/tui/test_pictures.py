"""What tests of other views still take from here."""

from tests.tui.conftest import Stage

SIZES = {"120x40": (120, 40), "80x24": (80, 24), "60x20": (60, 20)}
ASK = "Why is the sky blue?"


async def compared(stage: Stage) -> None:
    await stage.pilot.press("f3")
    screen = stage.app.screen
    for number, column in enumerate(screen.columns):  # type: ignore[attr-defined]
        column.talk.new_seed = lambda number=number: number % 2
    screen.prompt.take(ASK)  # type: ignore[attr-defined]
    await stage.pilot.press("enter")
    await stage.until(lambda: all(c.talk.transcript.shown and not c.talk.running for c in screen.columns))  # type: ignore[attr-defined]
