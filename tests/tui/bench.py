"""A chat's session on a bench: a scripted engine behind it that answers when it is told to, no screen and no thread."""

from collections.abc import Iterator
from itertools import count, islice
from typing import Any

from likely.app import requests as r
from likely.app.jobs import ModelJobs
from likely.app.tui.chat.candidates import Names
from likely.app.tui.chat.chat_session import ChatSession, Heard
from likely.app.worker import Failed
from likely.engine.conversation import Conversation, Fork
from likely.engine.errors import LikelyError
from likely.engine.prompt import Prompt
from likely.engine.trace.trace import TokenStep
from tests.support.model import ScriptedEngine, ScriptedShop


class Bench:
    """One session. Ids, seeds and the clock count on from one."""

    def __init__(self, *engines: ScriptedEngine, ready: bool = True, **settings: Any) -> None:
        shop = ScriptedShop(*engines)
        self.engine = next(iter(shop.engines.values()))
        self.jobs = ModelJobs(shop)
        for name in shop.engines:
            self.jobs.engines[name] = shop.engines[name]
        self.asked: list[r.ModelRequest] = []
        self.events: dict[int, Iterator[Any]] = {}
        ids, seeds, ticks = count(1), count(), count(1)
        self.session = ChatSession(
            Conversation("c", **settings),
            self.send,
            clock=lambda: float(next(ticks)),
            new_id=lambda: f"n{next(ids)}",
            new_seed=lambda: next(seeds),
        )
        self.facts = self.engine.facts
        self.names = Names(self.facts.vocabulary, self.facts.eos)
        if ready:
            self.session.ready(self.facts)

    def send(self, request: r.ModelRequest) -> int:
        self.asked.append(request)
        job = len(self.asked)
        self.events[job] = self.jobs.execute(request, lambda event: None)
        return job

    def hear(self, size: int = 10**6, job: int | None = None) -> Heard:
        """Have so many events of the newest job, or another one, and the session take them in."""
        job = len(self.asked) if job is None else job
        try:
            events = list(islice(self.events[job], size))
        except (LikelyError, RuntimeError) as error:
            events = [Failed(str(error))]
        heard = self.session.take(job, events)
        if heard.tokens and not heard.reshow:
            self.session.transcript.shown[-1].block.extend(heard.tokens)
        self.show()
        return heard

    def show(self) -> None:
        """What whoever shows the session does when it hears of another lineage."""
        self.session.transcript.blocks()

    def say(self, text: str) -> None:
        """A message and its whole answer."""
        self.session.submit(text)
        self.show()
        self.hear()

    def ids(self, *words: str) -> list[int]:
        return [self.engine.tokenizer.ids[word.encode()] for word in words]


def at(fork: Fork) -> str:
    return f"{fork.node or 'root'}{'' if fork.at is None else f'@{fork.at}'}"


def text_of(steps: tuple[TokenStep, ...] | list[TokenStep]) -> str:
    """Tokens apart, each with its origin where it was not drawn."""
    return "|".join(
        f"{step.piece.decode(errors='replace')}{'' if step.origin == 'drawn' else f'<{step.origin}>'}" for step in steps
    )


def tree(talk: Conversation) -> list[str]:
    """Every node, and what is checked out."""
    lines = []
    for node in talk.nodes.values():
        facts = [at(node.fork), "joins" * node.joins, f"seed {node.seed}" * bool(node.seed), node.finish, node.label]
        facts += ["hidden" * talk.hidden(node.id, len(node)), str(dict(node.figures) or "")]
        said = text_of(node.steps) if node.drawn else node.text
        lines.append(f"  {node.id} {node.role} {', '.join(filter(None, facts))}: {said!r}")
    lineage = " ".join(f"{segment.node.id}:{segment.length}" for segment in talk.lineage())
    return [*lines, f"  lineage {lineage}, updated {talk.updated:g}, model {talk.model}, system {talk.system!r}"]


def prompt_of(prompt: Prompt) -> str:
    return f"{list(prompt.turns)} then {list(prompt.parts)}{' whole' * prompt.whole}"


def request_of(request: r.ModelRequest) -> str:
    """A request in words."""
    match request:
        case r.Generate():
            more = f"seed {request.seed} most {request.max_tokens} force {request.force!r} by {request.strategy}"
            forced = list(request.control.forced)
            return f"generate {prompt_of(request.prompt)}, {more} forced {forced} cancelled {request.control.cancelled}"
        case r.Score():
            return f"score {prompt_of(request.prompt)} for {list(request.contents)}"
        case r.Load():
            return f"load {request.model!r}, else of {list(request.prefer)}"
        case _:
            return str(request)


def state(bench: Bench) -> list[str]:
    """All that is known of a session by now."""
    session = bench.session
    shown = []
    for message in session.transcript.shown:
        block = message.block
        tokens = "|".join(
            f"{token.text}{token.level or ''}{'s' * token.special}{'g' * token.given}" for token in block.tokens
        )
        facts = f"{' scored' * block.scored}{' grows' * block.growing}{' edited' * block.edited}"
        shown.append(f"  {block.who} [{block.note}] {tokens!r}{facts}")
    run = session.run
    running = "" if run is None else f"run of {run.node} on {run.nodes} read {run.read} ids {len(run.ids or ())}"
    peek = "" if session.peek is None else f"peek {session.peek.piece!r}"
    speed = f"{session.tokens_per_s():.1f} tok/s, {session.cache_nbytes} bytes"
    numbers = f"{session.context_tokens()} taken, {session.room()} left, {speed}"
    flags = f"{'stepping ' * session.stepping}{'waiting' * (session.waiting is not None)}"
    return [*tree(session.conversation), *shown, "  " + ", ".join(filter(None, (numbers, running, peek, flags)))]


def heard_of(heard: Heard) -> str:
    """What was heard, in words."""
    facts = [name for name in ("reshow", "branched", "denoised", "ended") if getattr(heard, name)]
    facts += [f"scored {heard.scored}"] * (heard.scored is not None) + [heard.news] * bool(heard.news)
    facts += [f"failed: {heard.failure.line}"] if heard.failure is not None else []
    return f"{'|'.join(token.text for token in heard.tokens)!r} {', '.join(facts)}"
