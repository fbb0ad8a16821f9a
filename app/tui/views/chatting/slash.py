"""Slash commands: a table of names, what they take, and what they do to the chat screen."""

import secrets
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from likely.app.store import export, system_prompts
from likely.app.store.sampling_text import BAN
from likely.app.tui.base import presets
from likely.app.tui.base.answer_settings import ANSWERS, LENGTH, SEED, STRATEGY, THINK, THINKS
from likely.app.tui.base.sampling import as_typed
from likely.app.tui.base.text import cells
from likely.app.tui.base.view_table import VIEWS
from likely.app.tui.chat import decoding
from likely.app.tui.dialogs.export_file import export_file
from likely.app.tui.views.chatting import context_full, diffusing, generation_settings, tooling
from likely.app.tui.views.chatting.chat_parts import ChatParts
from likely.app.tui.widgets.input.suggestions import Suggestion
from likely.app.tui.widgets.lists.overlays import Ask, Read
from likely.app.words.heat import HEATS, bits_of
from likely.engine.base.errors import LikelyError, ParameterError
from likely.engine.base.files import artifacts
from likely.engine.base.files.home import expanded
from likely.engine.base.files.whole_file import refuse_pipe
from likely.engine.chat.conversation import Fork
from likely.engine.decode.strategy_table import PLAIN, offers
from likely.engine.measure.answer_form import FORMS
from likely.engine.sampling.presets import ORDERS, PARAMETERS
from likely.engine.weights.adapters.attached import change, weight_of
from likely.models.configuration.rope_scaling import KINDS as SCALINGS

SETTABLE = [f"{name} " for name in (*PARAMETERS, STRATEGY, *FORMS, ANSWERS, SEED)]
Do = Callable[[ChatParts, str], None]
KINDS = ("markdown", "html", "jsonl")
COPIES = {"markdown": export.markdown, "html": export.page, "tokens": export.table}  # of the whole conversation


@dataclass(frozen=True, slots=True)
class Slash:
    """A command: what it takes in words, what it does in words, and what can be completed after it."""

    takes: str
    about: str
    do: Do
    options: Callable[[ChatParts], Sequence[str]] = lambda _: ()
    others: bool = False  # it takes names that are not listed, too


def table() -> dict[str, Slash]:
    """Every command: the chat's own, and one for each other view."""
    return COMMANDS | {name: Slash("", entry.about, partial(_view, name)) for name, entry in VIEWS.items()}


def _view(name: str, screen: ChatParts, text: str) -> None:
    screen.host.go(name)


def run(screen: ChatParts, text: str) -> None:
    """Do a command, or say what is wrong with it."""
    name, _, rest = text[1:].partition(" ")
    known = table()
    command = known.get(ELSEWHERE.get(name, name))
    if command is None:
        near = [other for other in known if other.startswith(name[:2])]
        hint = f"perhaps /{near[0]}" if near else "/help lists them"
        screen.hints.say(f"there is no command /{name}: {hint} · // begins a message with a slash", alarm=True)
        return
    try:
        command.do(screen, rest.strip())
    except LikelyError as error:
        screen.hints.say(str(error), alarm=True)


def suggest(screen: ChatParts, text: str) -> list[Suggestion]:
    """A command completed in every way: its name, then what it takes."""
    name, space, rest = text[1:].partition(" ")
    known = table()
    if not space:
        commands = [key for key in known if key.startswith(name)]
        commands += [key for key in known if name and name in key and key not in commands]
        return [
            Suggestion(f"/{key} " if known[key].takes else f"/{key}", usage(key), known[key].about, may_end(key))
            for key in commands
        ]
    command = known.get(name)
    options = [option for option in command.options(screen) if option.startswith(rest)] if command else []
    sure = command is None or not command.others
    return [Suggestion(f"/{name} {option}", option, whole=not option.endswith(" "), sure=sure) for option in options]


def usage(name: str) -> str:
    """A command and what it takes."""
    return f"/{name} {table()[name].takes}".rstrip()


def may_end(name: str) -> bool:
    """Whether a command can do without more words."""
    takes = table()[name].takes
    return not takes or takes.startswith("[")


def help_text() -> str:
    """The table in words."""
    rows = [(usage(name), command.about) for name, command in table().items()]
    size = max(len(row[0]) for row in rows)
    return "\n".join(f"{usage.ljust(size)}  {about}" for usage, about in rows)


# -- sampling ------------------------------------------------------------------------------------------------------


def _preset(screen: ChatParts, name: str) -> None:
    if not name:
        screen.inspector.sampler.action_presets()
    else:
        _choose(screen, f"preset {name}")


def _save_preset(screen: ChatParts, name: str) -> None:
    if not name:
        screen.hints.say("/save-preset wants a name")
        return
    presets.keep(screen.host.home, name, screen.chat.sampling)
    screen.hints.say(f"saved as preset {name}: values and order")


def _order(screen: ChatParts, name: str) -> None:
    _choose(screen, f"order {name}")


def _choose(screen: ChatParts, choice: str) -> None:
    """Take over a preset or an order."""
    sampling = presets.chosen(screen.host.home, choice, screen.chat.sampling, screen.chat.facts)
    screen.set_sampling(sampling)


def _set(screen: ChatParts, text: str) -> None:
    before, settings = screen.chat.settings, screen.chat.settings.typed(text)
    generation_settings.adjust(screen, settings)
    if replace(before, sampling=settings.sampling) == settings:
        screen.hints.say(as_typed(settings.sampling) or "everything is off: T 1.00")


def _tokens(screen: ChatParts, word: str) -> list[int]:
    """The tokens that a word is by itself and after a space. Raises ParameterError where it is neither."""
    names = screen.names()
    tokens = list(dict.fromkeys(token for text in (word, f" {word}") for token in names.encode(text)))
    if not word or not tokens:
        raise ParameterError(f"{word or 'nothing'} is not one token here: x in the candidates bans the picked one")
    return tokens


def _ban(screen: ChatParts, word: str) -> None:
    """Never draw a word from now on; without one, say what is banned."""
    sampling = screen.chat.sampling
    if word:
        for token in _tokens(screen, word):
            sampling = sampling.biased(token, BAN)
        screen.set_sampling(sampling)
    error = steered(screen)
    screen.hints.say(error or "nothing is banned: /ban word never draws it, /allow word lifts it")


def _bias(screen: ChatParts, text: str) -> None:
    word, _, value = text.rpartition(" ")
    number = weight_of(value)
    if number is None or not -100 <= number <= 100:
        raise ParameterError(f"/bias wants a word and what is added to its logit, -100 to 100, got {text or 'nothing'}")
    sampling = screen.chat.sampling
    for token in _tokens(screen, word):
        sampling = sampling.biased(token, number)
    screen.set_sampling(sampling)
    screen.hints.say(steered(screen))


def _allow(screen: ChatParts, word: str) -> None:
    """Lift the ban or the bias of a word; without one, of all."""
    sampling = screen.chat.sampling
    for token in _tokens(screen, word) if word else list(sampling.bias):
        sampling = sampling.lift(token)
    screen.set_sampling(sampling)
    screen.hints.say(steered(screen) or "nothing is banned or biased any more")


def _steered(screen: ChatParts) -> list[str]:
    return [screen.names().name(token).lstrip("·") for token in screen.chat.sampling.bias]


def steered(screen: ChatParts) -> str:
    """Bans and biases, in words."""
    sampling, names = screen.chat.sampling, screen.names()
    banned = ", ".join(map(names.name, sampling.bans))
    biased = ", ".join(f"{names.name(token)} {value:+g}" for token, value in sampling.biases)
    parts = (f"banned: {banned}" if banned else "", f"biased: {biased}" if biased else "")
    return " · ".join(filter(None, parts))


# -- the rest ------------------------------------------------------------------------------------------------------


def _system(screen: ChatParts, text: str) -> None:
    """Set the system prompt, by its words, a file or the name it is kept under; without any, edit the one there is."""
    if text:
        screen.instruct(system_prompts.read(screen.host.home, text))
    else:
        screen.pane.edit_system()


def _save_system(screen: ChatParts, name: str) -> None:
    """Keep the system prompt under a name; where there is none, what was kept there is kept no more."""
    home, text = screen.host.home, screen.chat.conversation.system
    if not name or (not text and name not in system_prompts.kept(home)):
        raise ParameterError("/save-system wants a name" if text else "there is no system prompt: /system writes one")
    system_prompts.keep(home, name, text)
    screen.hints.say(f"kept: /system {name} takes it" if text else f"{name} is kept no more")


def _title(screen: ChatParts, text: str) -> None:
    """Name the conversation; without a text, edit its name."""

    def named(text: str | None) -> None:
        if text and text.strip():
            screen.rename(cells.clean(text.strip()))
            screen.hints.say(f"named {text.strip()}")

    if text:
        named(text)
    else:
        screen.app.push_screen(Ask("name", screen.chat.conversation.title), named)


def _redo(screen: ChatParts, text: str) -> None:
    """Answer again; with parameters, these hold for this answer alone."""
    screen.action_redo(screen.chat.settings.typed(text) if text else None)


def _strategy(screen: ChatParts, text: str) -> None:
    """How tokens are found: one by one, with guesses ahead, by a search, as votes. Without words, a list."""
    if text:
        generation_settings.adjust(screen, screen.chat.settings.read(STRATEGY, text))
    else:
        screen.inspector.sampler.action_strategy()


def _strategies(screen: ChatParts) -> list[str]:
    others = decoding.others(screen.host.engine)
    return ["plain", *(str(strategy) for strategy in offers(tuple(others)) if strategy != PLAIN)]


def _copy(screen: ChatParts, kind: str) -> None:
    """Copy the answer, its code block, or the whole conversation in some form."""
    if kind in ("", "answer"):
        screen.pane.action_copy_answer()
    elif kind == "code":
        screen.pane.action_copy_code()
    elif kind in COPIES:
        screen.host.copy("".join(COPIES[kind](screen.chat.conversation)), kind)
    else:
        raise ParameterError(f"/copy is one of answer, code, {', '.join(COPIES)}")


def _number(name: str, text: str) -> int:
    if not text.isdigit():
        raise ParameterError(f"/{name} wants a whole number, got {text or 'nothing'}")
    return int(text)


def _seed(screen: ChatParts, text: str) -> None:
    """Draw the last answer again with a seed of one's own."""
    screen.action_redo(seed=_number("seed", text))


def _think(screen: ChatParts, text: str) -> None:
    """Have the next answers think, or not, or for so many tokens."""
    if text.isdecimal() and int(text):
        generation_settings.adjust(screen, screen.chat.settings.read(STRATEGY, f"budget {text}"))
    elif text in THINKS:
        generation_settings.adjust(screen, screen.chat.settings.read(THINK, text))
        screen.hints.say(f"thinking is {text}" if text != "as usual" else "thinking is left to the chat template")
    else:
        raise ParameterError(f"/think takes {', '.join(THINKS)} or a number of tokens, got {text or 'nothing'}")


def _max(screen: ChatParts, text: str) -> None:
    generation_settings.adjust(screen, settings := screen.chat.settings.read(LENGTH, str(_number("max", text))))
    most = f"at most {text} tokens an answer" if settings.max_tokens else "as many tokens as there is room for"
    screen.hints.say(diffusing.settings(screen) if screen.chat.diffuses else most)


def _prefill(screen: ChatParts, text: str) -> None:
    """Answer the last message again, beginning with given words."""
    if not screen.pane.shown:
        screen.hints.say("say something first: /prefill begins the answer to it")
        return
    message = screen.pane.shown[-1].message
    fork = message.segments[0].node.fork if message.role == "assistant" else Fork(message.last.id)
    screen.chat.answer(fork, force=text)
    screen.begun(True)


def _export(screen: ChatParts, rest: str) -> None:
    """Write the conversation to a file."""
    kind, _, name = rest.partition(" ")
    if kind not in KINDS:  # a path alone says by its suffix what it is to be
        kind, name = next((kind for kind in KINDS if rest.endswith(f".{export.SUFFIX[kind]}")), ""), rest
    if not kind:
        screen.hints.say(f"/export wants one of {', '.join(KINDS)}, and a path if you like")
        return
    store, talk = screen.host.store, screen.chat.conversation
    talk = store.with_snapshots(talk) if store is not None and kind == "jsonl" else talk
    path = expanded(name) if name else export.free(Path(f"likely-{talk.id}.{export.SUFFIX[kind]}"))

    def written(path: Path) -> None:
        try:
            export.write(talk, kind, path)
        except LikelyError as error:
            screen.hints.say(str(error), alarm=True)
            return
        news = f"exported to {path.absolute()}"
        if cells.width(news) < screen.size.width:
            screen.hints.say(news)
        else:  # the line of keys would cut it
            screen.app.push_screen(Read(f"exported {kind}", str(path.absolute())))

    export_file(screen.app, path, written)


def _import(screen: ChatParts, name: str) -> None:
    """Open a conversation from a file, as a new one."""
    path = expanded(name)
    refuse_pipe(path)
    talk = export.read(path, secrets.token_hex(4), screen.host.clock())
    screen.open(talk)
    screen.save()
    screen.hints.say(f"imported {path.name}: {len(talk.nodes)} messages and branches")


def _heat(screen: ChatParts, name: str) -> None:
    heat, least = (name, None) if name in HEATS else ("", bits_of(name))
    if heat or least is not None:
        screen.pane.set_heat(heat or screen.chat.transcript.heat, least)
    else:
        screen.hints.say(f"heat is one of {', '.join(HEATS)}, or the bits from which on words are tinted")


def _model(screen: ChatParts, name: str) -> None:
    if name:
        screen.host.switch_model(name)
    else:
        screen.host.choose_model()


def _adapter(screen: ChatParts, text: str) -> None:
    """Put an adapter on the model by its directory, or weigh one that is there: a number, `only` or `off`; these are
    of the one that is there where no name stands before them."""
    if text:
        screen.host.engine.adapt(*change(text, [adapter.name for adapter in screen.host.engine.attached]))
    else:
        screen.host.choose_adapters()


def _steer(screen: ChatParts, text: str) -> None:
    """Make a direction from texts to others and put it on the model: `calm: Be calm. ; All is well. | Hurry! @ 12`."""
    name, colon, rest = text.partition(":")
    texts, at, layer = rest.rpartition("@") if rest.rpartition("@")[2].strip().isdecimal() else (rest, "", "")
    sides = [[part.strip() for part in side.split(";") if part.strip()] for side in texts.split("|")]
    if not colon or len(sides) != 2 or not all(sides):
        screen.hints.say("/steer NAME: toward ; toward | away ; away @ LAYER (the layer may be left out)", alarm=True)
    else:
        screen.host.engine.steer(name.strip(), sides[0], sides[1], int(layer) if at else None)


def _adapters(screen: ChatParts) -> list[str]:
    on = [adapter.name for adapter in screen.host.engine.attached]
    off = [one.name for one in artifacts.all() if one.kind == artifacts.ADAPTER and one.there and one.name not in on]
    return [*(f"{name}{how}" for name in on for how in ("", " 0.5", " only", " off")), *off]


def _themes(screen: ChatParts) -> list[str]:
    return ["dark", "light", *screen.app.available_themes]


COMMANDS: dict[str, Slash] = {
    "help": Slash("", "keys and commands", lambda s, _: s.action_keys()),
    "model": Slash("[name]", "switch the model", _model, lambda s: sorted(s.host.engine.models), others=True),
    "adapter": Slash("[folder or name] [weight]", "put one on the model; a number, only, off", _adapter, _adapters),
    "steer": Slash("name: texts | others", "move the model from the others to the texts; ; between two", _steer),
    "reload": Slash("", "load the model again", lambda s, _: s.host.reload_model()),
    "system": Slash(
        "[text, file or name]",
        "the system prompt of this conversation",
        _system,
        lambda s: [*system_prompts.kept(s.host.home)],
        others=True,
    ),
    "new": Slash("", "a new conversation", lambda s, _: s.action_new()),
    "sessions": Slash("", "all conversations", lambda s, _: s.action_sessions()),
    "title": Slash("[text]", "name this conversation", _title),
    "find": Slash("[text]", "search this conversation, every branch", lambda s, text: s.pane.action_find(text)),
    "mark": Slash("[words]", "bookmark the token under the cursor", lambda s, words: s.pane.action_mark(words)),
    "marks": Slash("", "the bookmarks", lambda s, _: s.pane.action_marks()),
    "compact": Slash(
        "", "go on without the oldest messages, or with a summary of them", lambda s, _: context_full.offer(s)
    ),
    "rope": Slash(
        "kind:factor",
        "a longer context by scaling RoPE, after its price is measured; off",
        context_full.rope,
        lambda _: [*(f"{kind}:2" for kind in SCALINGS), "off"],
    ),
    "restore": Slash("", "bring back what was put away last", lambda s, _: s.pane.action_restore()),
    "redo": Slash("[parameters]", "another answer: /redo 1.2, /redo temp 0.5 top_k 40", _redo),
    "continue": Slash("", "go on with the last answer", lambda s, _: s.action_resume()),
    "prefill": Slash("text", "answer again, beginning with these words", _prefill),
    "step": Slash("", "choose token by token", lambda s, _: s.action_step()),
    "seed": Slash("n", "answer again with this seed", _seed),
    "max": Slash("n", "tokens an answer may have; 0 is no limit", _max),
    "think": Slash("on, off, n", "whether to think, or for how many tokens", _think, lambda _: list(THINKS)),
    "preset": Slash("[name]", "sampling preset", _preset, lambda s: presets.names(s.host.home, s.chat.facts)),
    "save-preset": Slash("name", "save the sliders as a preset", _save_preset),
    "save-system": Slash("name", "keep the system prompt by a name; an empty one drops it", _save_system),
    "order": Slash("name", "the order of the transforms", _order, lambda _: list(ORDERS)),
    "set": Slash("name value …", "a slider, seed, answers, or a constraint", _set, lambda _: SETTABLE),
    "undo": Slash("", "take back the last change of those settings", lambda s, _: generation_settings.undo(s)),
    "ban": Slash("[word]", "never draw a word; without one, list what is banned", _ban),
    "bias": Slash("word value", "add to a word's logit, -100 to 100", _bias),
    "allow": Slash("[word]", "lift the ban or bias of a word, or of all", _allow, lambda s: _steered(s)),
    "heat": Slash("name", "surprisal, entropy, rank, off; or bits: from where on", _heat, lambda _: list(HEATS)),
    "specials": Slash("", "show or hide control tokens", lambda s, _: s.pane.toggle_specials()),
    "strategy": Slash("name", "how tokens are found: drawn, guessed ahead, searched, voted", _strategy, _strategies),
    "unmask": Slash(
        "[option value …]",
        "of a diffusion model: in which order masks become tokens",
        diffusing.unmask,
        lambda _: [f"{name} " for name in diffusing.options()],
    ),
    "tools": Slash(
        "servers | off",
        "tools that the model may call: a file with mcpServers, calculator, folder:DIRECTORY",
        tooling.choose,
        lambda _: ["calculator", "folder:", "off"],
        others=True,
    ),
    "copy": Slash("[kind]", "the answer; code; all as markdown, html or tokens", _copy, lambda _: ["code", *COPIES]),
    "export": Slash("kind [path]", "markdown, html or jsonl", _export, lambda _: [f"{kind} " for kind in KINDS]),
    "import": Slash("path", "open a conversation from a file", _import),
    "theme": Slash("[name]", "dark, light, or any other", lambda s, name: s.host.choose_theme(name), _themes),
    "quit": Slash("", "leave", lambda s, _: s.host.quit()),
}

# what people type who come from elsewhere
ELSEWHERE = {
    "exit": "quit", "bye": "quit", "q": "quit", "clear": "new", "retry": "redo", "regenerate": "redo", "regen": "redo",
    "load": "sessions", "history": "sessions", "open": "sessions", "save": "export", "models": "model", "?": "help",
    "adapters": "adapter", "lora": "adapter", "search": "find", "rename": "title",
    "bookmark": "mark", "forbid": "ban", "unban": "allow", "parameters": "set",
}  # fmt: skip
