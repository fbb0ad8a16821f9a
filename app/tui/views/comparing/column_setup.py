"""Columns of a comparison: made, and set up, which is what one does differently and the model that it needs."""

import secrets
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

from likely.app.jobs import requests as r
from likely.app.jobs.worker import Failed
from likely.app.tui.base import presets
from likely.app.tui.base.answer_settings import AnswerSettings
from likely.app.tui.base.sampling import Sampling, as_typed, typed
from likely.app.tui.chat import decoding
from likely.app.tui.chat.chat_session import ChatSession
from likely.app.tui.chat.inspecting import comparison
from likely.app.tui.widgets.lists.overlays import Ask, Pick
from likely.app.tui.widgets.transcript.column import Column
from likely.engine.base.errors import LikelyError
from likely.engine.chat.conversation import Conversation
from likely.engine.decode.drafts.prompt_lookup import Drafting
from likely.engine.decode.loop.strategy import Strategy
from likely.engine.decode.strategy_table import PLAIN, offers, parse

if TYPE_CHECKING:
    from likely.app.tui.views.view import View

MOST = 4
NARROWEST = 28  # cells that a column needs


class ColumnSetup:
    """Makes the columns of a view, and asks a person about one.

    `differs` is told of a column that draws otherwise now, `heard` of what the engine says of one; all draw by `seed`.
    """

    def __init__(
        self,
        view: "View",
        differs: Callable[[Column], None],
        heard: Callable[[Column, int, list[Any]], None],
        seed: Callable[[], int],
    ) -> None:
        self.view, self.differs, self.heard, self.seed = view, differs, heard, seed

    # -- made --------------------------------------------------------------------------------------------------------

    def columns(self, saved: Conversation | None) -> list[Column]:
        """The columns of what is kept, or those that a new comparison begins with."""
        talks = comparison.columns(saved) if saved is not None and saved.nodes else []
        if talks:
            return [self._kept(talk) for talk in talks[:MOST]]
        chat = self.view.host.session
        sampling = chat.sampling if chat is not None else Sampling()
        kinds = [sampling.preset("greedy"), sampling]
        if self.view.app.size.width >= 3 * NARROWEST:
            kinds.append(sampling.preset("wild") if sampling.preset_name != "wild" else sampling.preset("balanced"))
        return [self.column(kind) for kind in kinds]

    def _kept(self, talk: Conversation) -> Column:
        """A column with the answer that it had; its strategy and its model as far as its label names them."""
        label, sampling = talk.messages()[-1].last.label, Sampling.of(talk.recipe)
        parts, models = label.split(" · "), self.view.host.engine.models
        strategy = next((s for s in offers(tuple(models)) if s.words and s.words in parts), PLAIN)
        model = next((name for name, facts in models.items() if {name, facts.title} & set(parts)), "")
        return self.column(sampling, model, strategy, talk)

    def column(
        self, sampling: Sampling, model: str = "", strategy: Strategy = PLAIN, stored: Conversation | None = None
    ) -> Column:
        host = self.view.host
        talk = stored or self.conversation(sampling, None)
        chat = ChatSession(talk, lambda _: 0, clock=host.clock, store=host.store)
        now = AnswerSettings(max_tokens=host.start.max_tokens) if host.session is None else host.session.settings
        chat.history.now = AnswerSettings(sampling, strategy, max_tokens=now.max_tokens, thinking=now.thinking)
        chat.new_seed = self.seed
        label = stored.messages()[-1].last.label if stored is not None else ""
        column = Column(chat, model, host.store, label)
        chat.send = lambda request: host.engine.submit(request, partial(self.heard, column))
        return column

    def conversation(self, sampling: Sampling, facts: r.ModelFacts | None) -> Conversation:
        """An empty one, with the system prompt of the chat."""
        host = self.view.host
        now, chat = host.clock(), host.session
        return Conversation(
            secrets.token_hex(4),
            model=facts.name if facts is not None else "",
            system=chat.conversation.system if chat is not None else "",
            recipe=sampling.recipe,
            order=sampling.names,
            created=now,
            updated=now,
        )

    # -- set up ------------------------------------------------------------------------------------------------------

    def ask(self, column: Column) -> None:
        """Choose what a column does differently: parameters, their order, how tokens are found, or another model."""
        host, facts = self.view.host, column.chat.facts
        own = facts.name if facts is not None else column.model
        options = [
            *presets.named(host.home, facts),
            ("typed", "  parameters…    type them: temp 1.2 top_p 0.9"),
            *presets.orders(),
            *decoding.strategies([name for name in host.engine.models if name != own]),
            ("", "model"),
            *((f"model {name}", f"  {name}") for name in host.engine.models),
            ("model", "  another model…"),
        ]
        self.view.app.push_screen(Pick("what this column does differently", options), partial(self._chosen, column))

    def _chosen(self, column: Column, choice: str | None) -> None:
        """Take over what was picked for a column."""
        chat = column.chat
        kind, _, name = (choice or "").partition(" ")
        match kind:
            case "typed":
                title = "parameters and their values; what is not named stays"
                self.view.app.push_screen(Ask(title, as_typed(chat.sampling)), partial(self._typed, column))
            case "draft":
                self._other_model(column, lambda facts: self._found_by(column, Drafting(facts.name)))
            case "model" if not name:
                self._other_model(column, lambda facts: setattr(column, "model", facts.name))
            case "strategy":
                self._found_by(column, parse(name))
                self.differs(column)
            case "model":
                column.model = name
                self.differs(column)
            case "preset" | "order":
                sampling = presets.chosen(self.view.host.home, f"{kind} {name}", chat.sampling, chat.facts)
                chat.adjust(replace(chat.settings, sampling=sampling))
                self.differs(column)

    @staticmethod
    def _found_by(column: Column, strategy: Strategy) -> None:
        column.chat.adjust(replace(column.chat.settings, strategy=strategy))

    def _typed(self, column: Column, text: str | None) -> None:
        if text is None:
            return
        try:
            settings = column.chat.settings
            column.chat.adjust(replace(settings, sampling=typed(text, settings.sampling)))
            self.differs(column)
        except LikelyError as error:
            self.view.hints.say(str(error), alarm=True)

    def _other_model(self, column: Column, use: Callable[[r.ModelFacts], None]) -> None:
        """Have a person choose a model; load it, and then use it."""
        from likely.app.tui.dialogs.models import Models

        def loaded(facts: r.ModelFacts) -> None:
            use(facts)
            self.differs(column)

        def chosen(name: str | None) -> None:
            if name is not None:
                self.load(name, loaded)

        self.view.app.push_screen(Models(self.view.host), chosen)

    def load(self, name: str, then: Callable[[r.ModelFacts], None]) -> None:
        """Load a model beside the current one, and go on."""

        def loaded(job: int, events: list[Any]) -> None:
            for event in events:
                match event:
                    case r.Progressed(_, stage, done, total):
                        self.view.hints.say(f"{stage} {100 * done // total} %" if total else stage)
                    case r.Loaded(facts):
                        self.view.hints.say("")
                        self.view.host.engine.adopt(facts)
                        then(facts)
                    case Failed(line):
                        self.view.hints.say(line, alarm=True)

        self.view.host.engine.submit(r.Load(name), loaded)
