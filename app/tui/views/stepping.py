"""Step mode of a chat: the person chooses, token by token. What it does to the conversation is the session's."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from likely.app.tui.views.chat import ChatScreen

NEWS = "step: enter takes the picked candidate · space the model's own · esc ends"


def turn(screen: "ChatScreen") -> None:
    """Begin, or end where it is on."""
    if screen.talk.stepping:
        end(screen)
        return
    if screen.talk.diffuses:
        screen.hints.say("a diffusion model writes in any order: tab, then enter on the canvas chooses a word")
        return
    begun = screen.talk.step_on()
    screen.begun(begun, "step mode needs a message to answer, and a model")
    if begun:
        screen.hints.say(NEWS)
        screen.inspector.open()


def peeked(screen: "ChatScreen") -> None:
    """It is known what could come next: have the person pick."""
    if screen.talk.peek is not None:
        screen.inspector.candidates.picked = 0
        screen.inspector.candidates.focus()
        screen.hints.say(NEWS)


def end(screen: "ChatScreen") -> None:
    """Leave it; what was chosen stays."""
    screen.talk.step_off()
    screen.hints.say("")
    screen.reshow()
    screen.save()
    screen.composer.focus()
