"""The columns of a comparison: making them, adding, removing, and choosing what each does differently."""

import secrets
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, cast

from textual.screen import Screen

from app import requests as r
from app.tui import presets
from app.tui.chat import comparison
from app.tui.chat.chat_session import ChatSession
from app.tui.dialogs.overlays import Ask, Pick
from app.tui.sampling import Sampling, given, typed
from app.tui.widgets.bars import Hints
from app.tui.widgets.column import Column
from app.worker import Failed
from engine.conversation import Conversation
from engine.decode.guessing import Drafting
from engine.decode.strategies import PLAIN, parse
from engine.decode.strategy import Strategy
from engine.errors import LikelyError

if TYPE_CHECKING:
    from app.tui.app import LikelyApp

MOST = 4
NARROWEST = 28  # cells that a column needs


class Columns(Screen[None]):
    """The part of the comparison for its columns."""

    hints: Hints

    def __init__(self) -> None:
        super().__init__()
        self.seed = 7

    @property
    def likely(self) -> "LikelyApp":
        return cast("LikelyApp", self.app)

    @property
    def columns(self) -> list[Column]:
        return list(self.query(Column))

    def picked(self) -> Column:
        """The column that has the focus, else the first."""
        return next((column for column in self.columns if column.has_focus_within), self.columns[0])

    @property
    def models(self) -> set[str]:
        """The models that have to stay loaded, beside the current one."""
        return {name for column in self.columns for name in column.models}

    def refresh_heads(self) -> None:
        for column in self.columns:
            column.head()

    def refresh_feet(self) -> None:
        """What each column came to, and where it parts from the first."""
        first = self.columns[0]
        for column in self.columns:
            column.compare(first)
            column.foot(column is first)

    def model_changed(self) -> None:
        """A model was loaded: columns that use it may begin."""
        current = self.likely.engine.current
        for column in self.columns:
            facts = self.likely.engine.models.get(column.model) if column.model else current
            if facts is not None and column.talk.facts is not facts:
                column.talk.ready(facts)
                column.show(follow=True)
        self.refresh_heads()

    def reported(self, column: Column, job: int, events: list[Any]) -> None:
        """Events of one column's runs."""
        raise NotImplementedError

    def _conversation(self, sampling: Sampling, facts: r.ModelFacts | None) -> Conversation:
        """An empty one, with the system prompt of the chat."""
        now, chat = self.likely.clock(), self.likely.chat
        return Conversation(
            secrets.token_hex(4),
            model=facts.name if facts is not None else "",
            system=chat.talk.conversation.system if chat is not None else "",
            recipe=sampling.recipe,
            order=sampling.names,
            created=now,
            updated=now,
        )

    def _column(self, sampling: Sampling, model: str = "", strategy: Strategy = PLAIN) -> Column:
        talk = ChatSession(self._conversation(sampling, None), lambda _: 0, clock=self.likely.clock)
        talk.sampling, talk.strategy = sampling, strategy
        talk.new_seed = lambda: self.seed
        column = Column(talk, model)
        talk.send = lambda request: self.likely.engine.submit(request, partial(self.reported, column))
        return column

    async def action_add(self) -> None:
        """Another column, a copy of the picked one."""
        fits = self.size.width // (len(self.columns) + 1) >= NARROWEST
        if len(self.columns) >= MOST or not fits:
            self.hints.say("there is no room for another column")
            return
        like = self.picked()
        column = self._column(like.talk.sampling, like.model, like.talk.strategy)
        await self.query_one("#columns").mount(column)
        self.model_changed()
        self.set_up(column)

    async def action_remove(self) -> None:
        """Take the picked column away."""
        if len(self.columns) <= 2:
            self.hints.say("a comparison has at least two columns")
            return
        column = self.picked()
        column.talk.stop()
        await column.remove()
        self.unmark()  # the first one may be another now
        self.columns[0].view.focus()
        self.refresh_heads()
        self.refresh_feet()

    def unmark(self) -> None:
        """Compare with the first column from the beginning."""
        for column in self.columns:
            column.unmark()
            column.view.redraw()

    def action_set_up(self) -> None:
        self.set_up(self.picked())

    def set_up(self, column: Column) -> None:
        """Choose what a column does differently: parameters, their order, how tokens are found, or another model."""
        loaded = [name for name in self.likely.engine.models if name != self._model_of(column)]
        options = [
            *presets.named(self.likely.home),
            ("typed", "  parameters…    type them: temp 1.2 top_p 0.9"),
            *presets.orders(),
            *comparison.strategies(loaded),
            ("", "model"),
            *((f"model {name}", f"  {name}") for name in self.likely.engine.models),
            ("model", "  another model…"),
        ]
        self.app.push_screen(Pick("what this column does differently", options), partial(self._chosen, column))

    def _model_of(self, column: Column) -> str:
        return column.talk.facts.name if column.talk.facts is not None else column.model

    def _chosen(self, column: Column, choice: str | None) -> None:
        """Take over what was picked for a column."""
        talk = column.talk
        kind, _, name = (choice or "").partition(" ")
        match kind:
            case "typed":
                title = "parameters and their values; what is not named stays"
                self.app.push_screen(Ask(title, given(talk.sampling)), partial(self._typed, column))
            case "draft":
                self._other_model(column, lambda facts: setattr(talk, "strategy", Drafting(facts.name)))
            case "model" if not name:
                self._other_model(column, lambda facts: setattr(column, "model", facts.name))
            case "strategy":
                talk.strategy = parse(name)
                self.differs(column)
            case "model":
                column.model = name
                self.differs(column)
            case "preset" | "order":
                talk.resample(presets.chosen(self.likely.home, f"{kind} {name}", talk.sampling))
                self.differs(column)

    def differs(self, column: Column) -> None:
        """A column draws otherwise now."""
        self.model_changed()

    def _typed(self, column: Column, text: str | None) -> None:
        if text is None:
            return
        try:
            column.talk.resample(typed(text, column.talk.sampling))
            self.differs(column)
        except LikelyError as error:
            self.hints.say(str(error), alarm=True)

    def _other_model(self, column: Column, use: Callable[[r.ModelFacts], None]) -> None:
        """Have a person choose a model; load it, and then use it."""
        from app.tui.dialogs.models import Models

        def loaded(job: int, events: list[Any]) -> None:
            for event in events:
                match event:
                    case r.Progressed(_, stage, done, total):
                        self.hints.say(f"{stage} {100 * done // total} %" if total else stage)
                    case r.Loaded(facts):
                        self.hints.say("")
                        self.likely.engine.adopt(facts)
                        use(facts)
                        self.differs(column)
                    case Failed(line):
                        self.hints.say(line, alarm=True)

        def picked(name: str | None) -> None:
            if name is not None:
                self.likely.engine.submit(r.Load(name), loaded)

        self.app.push_screen(Models(self.likely), picked)

    def on_unmount(self) -> None:
        self.likely.engine.release()
