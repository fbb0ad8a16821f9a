"""The chat of a diffusion model, beside what every chat does: its top line, its formula, how masks become tokens."""

from dataclasses import fields, replace
from typing import Any

from likely.app.tui.base.sampling import Sampling, as_typed
from likely.app.tui.chat import status
from likely.app.tui.chat.chat_session import ChatSession
from likely.app.tui.chat.denoising import words
from likely.app.tui.dialogs.opening import WAITING
from likely.app.tui.views.chatting.chat_parts import ChatParts
from likely.app.tui.widgets.diffusion.diffusion_pane import PLACEHOLDER
from likely.engine.base.errors import ParameterError
from likely.engine.sampling.trace.unmasking import Unmasking, unordered

SWITCH = {"on": True, "off": False}


def show(screen: ChatParts) -> None:
    """The top line, the pane where the model is a diffusion one, and its formula."""
    chat, pane, engine = screen.chat, screen.diffusion, screen.host.engine
    name, facts = status.shown(chat, engine)
    if chat.diffuses:
        facts = (*pane.facts(), facts[-1])
    if screen.host.training is not None and (brief := screen.host.training.brief):
        facts = (brief, *facts)
    screen.top.show(name, facts, kept=int(chat.diffuses))
    screen.top.tint("off" if chat.diffuses else chat.transcript.heat, chat.transcript.least)
    pane.reshow()
    if screen.composer.is_attached:
        screen.composer.placeholder = PLACEHOLDER if chat.diffuses else WAITING
    if chat.diffuses:
        screen.caption.show(pane.caption(screen.size.width))


def check(chat: ChatSession, sampling: Sampling) -> None:
    """Raises ParameterError for settings that need tokens in order, where the model fills masks in any."""
    try:
        if chat.diffuses:
            unordered(sampling.recipe)
    except ParameterError as error:
        raise ParameterError(f"{error}: it stays off") from None


def settings(screen: ChatParts) -> str:
    """The settings by which the next answer is filled, in one line."""
    chat, most = screen.chat, screen.chat.settings.max_tokens
    masks = f"{most} mask{'s' * (most > 1)}" if most else "as many masks as are usual"
    return f"{words(chat.unmasking)} · {masks} (/max) · {as_typed(chat.sampling) or 'T 1.00'} (/set)"


def unmask(screen: ChatParts, text: str) -> None:
    """Another order in which masks become tokens, from the next answer on; without words, what holds. Raises
    ParameterError for what is no such option."""
    if text:
        screen.chat.unmasking = read(text, screen.chat.unmasking)
    screen.hints.say(settings(screen))
    screen.status()


def options() -> dict[str, Any]:
    """The options of the order that a person can give, and their defaults."""
    return {field.name: field.default for field in fields(Unmasking)}


def read(text: str, how: Unmasking) -> Unmasking:
    """Options as a person typed them, `threshold 0.9 revise 4`, over those that hold; `off` is the defaults."""
    if text.strip() == "off":
        return Unmasking()
    parts = text.replace("=", " ").replace(",", " ").split()
    known = options()
    if len(parts) % 2 or not set(parts[::2]) <= set(known) or len({*parts[::2]}) < len(parts) // 2:
        raise ParameterError(f"/unmask wants {', '.join(known)}, each with its value once, or off; got {text.strip()}")
    values = dict(zip(parts[::2], parts[1::2], strict=True))
    try:
        typed: dict[str, Any] = {
            name: SWITCH[value] if isinstance(known[name], bool) else type(known[name])(value)
            for name, value in values.items()
        }
    except (ValueError, KeyError):
        raise ParameterError(
            f"/unmask wants numbers, and on or off, as in threshold 0.9 check on; got {text.strip()}"
        ) from None
    return replace(how, **typed).checked()
