"""Step mode of a chat: the person chooses, token by token. What it does to the conversation is the session's."""

from likely.app.tui.views.chatting.chat_parts import ChatParts

NEWS = "step: enter takes the picked candidate · space the model's own · esc ends"


def turn(screen: ChatParts) -> None:
    """Begin step mode, or end it where it is on."""
    if screen.chat.stepping:
        end(screen)
        return
    if screen.chat.diffuses:
        screen.hints.say("a diffusion model writes in any order: tab, then enter on the canvas chooses a word")
        return
    begun = screen.chat.step_on()
    screen.begun(begun, "step mode needs a message to answer, and a model")
    if begun:
        screen.hints.say(NEWS)
        screen.inspector.open()


def peeked(screen: ChatParts) -> None:
    """Show the candidates of the next token for a person to pick one."""
    if screen.chat.peek is not None:
        screen.inspector.candidates.picked = 0
        screen.inspector.candidates.focus()
        screen.hints.say(NEWS)


def end(screen: ChatParts) -> None:
    """Leave step mode; the tokens that were picked stay."""
    screen.chat.step_off()
    screen.hints.say("")
    screen.reshow()
    screen.save()
    screen.composer.focus()
