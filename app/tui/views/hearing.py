"""Hearing: what the engine reports of the conversation that is open: its text, its title, its speed."""

from dataclasses import replace
from time import monotonic
from typing import Any

from app import requests as r
from app.tui.chat.auto_saver import EVERY_S
from app.tui.chat.chat_session import TITLE
from app.tui.tokens import cells
from app.tui.views.finding import Finding
from app.tui.views.steering import STEP_NEWS
from app.tui.widgets.bars import TopBar
from app.worker import Failed
from engine.decode.control import RunControl
from engine.decode.events import Done, Emitted, Prefilled
from engine.prompt import Prompt
from engine.trace.trace import Recipe, TokenStep

STATUS_S = 0.5


class Hearing(Finding):
    """The part of the chat screen for what comes from the engine's thread."""

    def __init__(self) -> None:
        super().__init__()
        self._saved_s = 0.0
        self._status_s = 0.0

    def tick(self) -> None:
        """Once a second: what was drawn is handed to the keeper, and its trouble is shown."""
        if self.talk.running:
            self.talk.keep()
            self.save()
        keeper = self.likely.keeper
        if keeper is not None and keeper.trouble:
            self.hints.say(f"{keeper.trouble} · the conversation stays open", alarm=True)
        elif keeper is not None and keeper.news:
            self.hints.say(keeper.news, alarm=True)
            keeper.news = ""

    def _send(self, request: r.ModelRequest) -> int:
        return self.likely.engine.submit(request, self.reported)

    def reported(self, job: int, events: list[Any]) -> None:
        """A batch of events of one job: tokens together, one repaint."""
        steps: list[TokenStep] = []
        mine = self.talk.mine(job)
        for event in events:
            match event:
                case Emitted(_, step) if mine:
                    steps.append(step)
                case r.Began(ids) if mine:
                    self.talk.began(ids)
                case r.Cached(nbytes) if mine:
                    self.talk.cache_nbytes = nbytes
                case Prefilled(done, total) if mine:
                    if done < total:
                        self.hints.say(f"reading the prompt · {done} of {total} tokens")
                    else:
                        self._hint()
                case Done() if mine:
                    self._drew(steps)
                    steps = []
                    self.talk.ended(event)
                    self._finished()
                case Failed(line, trace):
                    self._drew(steps)
                    steps = []
                    self._failed(job, line, trace)
                case r.Scored():
                    self._scored(job, event)
        self._drew(steps)

    def _drew(self, steps: list[TokenStep]) -> None:
        if not steps or self.talk.run is None:
            return
        tokens = self.talk.drew(steps)
        if tokens:
            self.transcript.extend(tokens)
        now = monotonic()
        if self.transcript.cursor is None or self.talk.peek is not None:
            self.inspect_soon()
        if now - self._status_s >= STATUS_S:
            self._status_s = now
            self.transcript.renote(len(self.talk.shown) - 1, self.talk.note(len(self.talk.shown) - 1))
            self.status()
        if now - self._saved_s >= EVERY_S:
            self._saved_s = now
            self.talk.keep()
            self.save()

    def _finished(self) -> None:
        self.save()
        if not self.talk.stepping:
            self._fold_thinking()
            self.reshow()
            self.panel.blur() if self.panel.has_focus and self.talk.peek is None else None
            self._name_it()
        else:
            self.inspect()
            if self.talk.peek is not None:
                self.panel.picked = 0
                self.panel.focus()
                self.hints.say(STEP_NEWS)
        self.status()
        self._rest()

    def _failed(self, job: int, line: str, trace: str) -> None:
        if self.talk.mine(job):
            self.talk.failed()
            self.save()
            self.reshow()
        if trace:
            path = self.likely.home / "crash.txt"
            try:
                path.write_text(trace, encoding="utf-8")
                line = f"the engine stopped: {line} · the text is kept · /reload loads the model again · {path}"
            except OSError:
                line = f"the engine stopped: {line} · the text is kept · /reload loads the model again"
        self.hints.say(line, alarm=True)

    def _name_it(self) -> None:
        """Let the model name an unnamed conversation, when it has nothing else to do."""
        talk, facts = self.talk, self.likely.engine.current
        messages = talk.conversation.messages()
        if talk.conversation.title or len(messages) < 2 or facts is None or talk.running:
            return
        said = cells.clean(" ".join(messages[0].text.split()))
        self._title(said)
        if not facts.chat or messages[-1].last.finish not in ("eot", "stop", "length"):
            return
        turns = [(message.role, message.text[:2000]) for message in messages[:2]]
        control = RunControl(Recipe(greedy=True))
        self._title_control = control
        pieces: list[str] = []
        id = talk.conversation.id

        def heard(job: int, events: list[Any]) -> None:
            for event in events:
                if isinstance(event, Emitted) and not event.step.special:
                    pieces.append(event.step.text)
                if isinstance(event, Done) and event.reason in ("eot", "stop", "length") and self.talk is talk:
                    words = "".join(pieces).strip().split("\n")[0].strip("\"'*#. ")
                    if words and len(words.split()) <= 12 and talk.conversation.id == id:
                        self._title(cells.clean(words))

        prompt = Prompt((*turns, ("user", TITLE)))
        self.likely.engine.submit(r.Generate(facts.name, prompt, control, max_tokens=14), heard)

    def _title(self, title: str) -> None:
        self.talk.conversation = replace(self.talk.conversation, title=cells.fit(title, 60))
        self.save()
        self.status()

    def model_changed(self) -> None:
        """A model is loading, loaded or gone."""
        facts, loading = self.likely.engine.current, self.likely.engine.loading
        if facts is not None and self.talk.facts is not facts:
            self.talk.ready(facts)
            self.reshow()
        self.status()
        if loading is not None and not self.hints.alarm:
            share = f" {100 * loading.done // loading.total} % · esc stops" if loading.total else "…"
            self.hints.say(f"{loading.stage}{share}" if " " in loading.stage else f"loading the model{share}")
        elif not self.hints.alarm:
            self._hint()

    def status(self) -> None:
        """The top line: model, context, speed, memory."""
        facts = self.likely.engine.current
        if facts is None:
            loading = self.likely.engine.loading
            name = (loading.model if loading is not None else "") or "no model"
            self.query_one(TopBar).show(name, ("loading",) if loading is not None else ("/model chooses one",))
            return
        parts = []
        used = 0
        run = self.talk.run
        if run is not None:
            begun = self.talk.began_ids.get(run.node) or next(iter(reversed(self.talk.began_ids.values())), ())
            used = len(begun) + len(run.steps)
        elif self.talk.stats is not None:
            used = self.talk.stats.prompt_tokens + self.talk.stats.tokens
        if used:
            parts.append(f"{used}/{_thousands(facts.context)} ctx")
        speed = self._speed()
        if speed:
            parts.append(f"{speed:.0f} tok/s")
        parts.append(_gigabytes(facts.nbytes + self.talk.cache_nbytes))
        name = facts.title or facts.name
        self.talk.adapters = " + ".join(f"{a.name} {a.weight:g}" for a in self.likely.engine.attached if a.weight)
        self.query_one(TopBar).show(" + ".join(filter(None, (name, self.talk.adapters))), tuple(parts))

    def _speed(self) -> float:
        run = self.talk.run
        if run is not None and len(run.steps) > 1:
            spent = run.steps[-1].elapsed_s - run.steps[0].elapsed_s
            return (len(run.steps) - 1) / spent if spent > 0 else 0.0
        return self.talk.stats.tokens_per_s if self.talk.stats is not None else 0.0


def _thousands(count: int) -> str:
    return f"{count // 1000}k" if count >= 10_000 else str(count)


def _gigabytes(nbytes: int) -> str:
    return f"{nbytes / 1e9:.1f} GB" if nbytes >= 5e7 else f"{nbytes / 1e6:.0f} MB"
