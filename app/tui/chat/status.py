"""The state of a chat in words: the top line, a model that is being loaded, an engine that failed."""

from pathlib import Path

from likely.app.jobs import requests as r
from likely.app.jobs.worker import Failed
from likely.app.tui.base.engine_client import EngineClient
from likely.app.tui.chat.chat_session import ChatSession

READING = "reading the prompt"
CRASH = "crash.txt"  # in likely's folder


def shown(session: ChatSession, engine: EngineClient) -> tuple[str, tuple[str, ...]]:
    """The model's name, and facts of which the last matter least."""
    facts = engine.current
    if facts is None:
        name = (engine.loading.model if engine.loading is not None else "") or "no model"
        return name, ("loading",) if engine.loading is not None else ("/model chooses one",)
    used, speed = session.context_tokens(), session.tokens_per_s()
    parts = [f"{used}/{_thousands(facts.context)} ctx"]
    parts += [f"{speed:.0f} tok/s"] if speed else []
    parts.append(_gigabytes(facts.nbytes + session.cache_nbytes))
    return " + ".join(filter(None, (facts.title or facts.name, session.adapters))), tuple(parts)


def adapters(engine: EngineClient) -> str:
    """The adapters that are on, with their weights."""
    return " + ".join(f"{adapter.name} {adapter.weight:g}" for adapter in engine.attached if adapter.weight)


def progress(loading: r.Progressed) -> str:
    """How far a model is that is being made ready."""
    share = f" {100 * loading.done // loading.total} % · esc stops" if loading.total else "…"
    return f"{loading.stage}{share}" if " " in loading.stage else f"loading the model{share}"


def reading(done: int, total: int) -> str:
    """How much of a prompt the model has read."""
    return f"{READING} · {done} of {total} tokens"


def failed(failure: Failed, home: Path) -> str:
    """A failure in one line; a bug's traceback goes to a file."""
    if not failure.trace:
        return failure.line
    line, path = f"the engine stopped: {failure.line} · the text is kept · /reload loads the model again", home / CRASH
    try:
        path.write_text(failure.trace, encoding="utf-8")
        return f"{line} · {path}"
    except OSError:
        return line


def _thousands(count: int) -> str:
    return f"{count // 1000}k" if count >= 10_000 else str(count)


def _gigabytes(nbytes: int) -> str:
    return f"{nbytes / 1e9:.1f} GB" if nbytes >= 5e7 else f"{nbytes / 1e6:.0f} MB"
