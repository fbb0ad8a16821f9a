"""Settings of a chat's answers as a person changes them: strategy, form, number, seed, sliders; said and undone."""

from dataclasses import replace

from likely.app.store.sampling_text import ARROW
from likely.app.tui.base.answer_settings import AnswerSettings, moved
from likely.app.tui.chat.start import Start
from likely.app.tui.views.chatting import diffusing
from likely.app.tui.views.chatting.chat_parts import ChatParts
from likely.engine.base.errors import ParameterError
from likely.engine.decode.strategy_table import PLAIN


def adjust(screen: ChatParts, settings: AnswerSettings, *, walked: bool = False) -> None:
    """Ask for answers otherwise, of the one under way from its next token on where that can be. Raises ParameterError,
    nothing changed, for what the model cannot do, or a model is needed for that is not loaded."""
    chat, before = screen.chat, screen.chat.settings
    diffusing.check(chat, settings.sampling)
    left_to_right = replace(settings, sampling=before.sampling, seed=before.seed, max_tokens=before.max_tokens)
    if chat.diffuses and left_to_right != before:
        raise ParameterError("a diffusion model fills masks: /unmask says in which order")
    thinking = settings.thinking
    if thinking not in (None, before.thinking) and chat.facts is not None and thinking not in chat.facts.thinks:
        raise ParameterError(f"this model's chat template cannot be told {'' if thinking else 'not '}to think")
    missing = [name for name in settings.strategy.needs if name not in screen.host.engine.models]
    if missing:
        raise ParameterError(
            f"{settings.strategy} needs {missing[0]}, which is not loaded: f3 loads a second model in a column"
        )
    chat.adjust(settings, walked=walked)
    _show(screen)
    if (news := _news(before, settings)) and not walked:
        screen.hints.say(f"{news} · from the next answer on" if chat.running else news)


def undo(screen: ChatParts) -> None:
    """Take back the last change."""
    undone = screen.chat.history.undo()
    screen.chat.adjust(screen.chat.settings)
    _show(screen)
    none = "no setting was changed yet · /restore brings back what was put away"
    screen.hints.say(f"undone: {undone}" if undone else none)


def begun(start: Start, own: AnswerSettings, before: AnswerSettings | None) -> AnswerSettings:
    """Settings of a conversation that is opened: its own; the first has what the program was started with. Seeds that
    were counting `before` count on."""
    seeds = (start.seed, own.seed) if before is None else (own.seed, before.seed)
    lengths = (start.max_tokens, own.max_tokens) if before is None else (own.max_tokens, start.max_tokens)
    seed, length = (next((each for each in both if each is not None), None) for both in (seeds, lengths))
    return replace(own, seed=seed, max_tokens=length)


def told(settings: AnswerSettings) -> str:
    """The line to say of what a conversation that is opened asks of its answers, "" for nothing unusual."""
    usual = AnswerSettings(settings.sampling, seed=settings.seed)
    kept = [f"{words.split()[0]} {words.rpartition(ARROW)[2]}" for words in moved(usual, settings)]
    return f"as before: {', '.join(kept)} · 0 in the panel (^g) switches one off" if kept else ""


def _show(screen: ChatParts) -> None:
    screen.inspector.sampler.show(screen.chat.settings)
    screen.inspector.inspect()
    screen.inspector.rest()
    if not screen.chat.running:
        screen.save()


def _news(before: AnswerSettings, settings: AnswerSettings) -> str:
    """The line to say of a change that is of more than the sliders, "" for others."""
    strategy, changes = settings.strategy, list(moved(before, replace(settings, sampling=before.sampling)))
    if strategy == before.strategy:
        return ", ".join(changes)
    if strategy == PLAIN:
        return "tokens are found one by one"
    only = " · of the sampler only bans and biases act" if strategy.SEARCHES else ""
    return f"{strategy}: {strategy.about}{only}"
