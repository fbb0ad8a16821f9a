"""The token of a chat that is looked at: its inspection, its neighbours' entropies, its snapshot from disk.

No widgets: where the cursor stands is told each time.
"""

from dataclasses import replace
from functools import partial

from likely.app.jobs import requests as r
from likely.app.store import sampling_text
from likely.app.store.store import Store
from likely.app.tui.base.text import cells
from likely.app.tui.base.text.layout import TokenPlace
from likely.app.tui.chat.candidates import CandidateTable, Names
from likely.app.tui.chat.chat_session import ChatSession
from likely.app.tui.chat.inspecting import places
from likely.app.tui.chat.inspecting.inspection import Inspection, Subject, entropies
from likely.app.tui.chat.inspecting.search_choice import choice
from likely.engine.chat.tools.tool_prompt import ToolChoice
from likely.engine.sampling.trace.step import TokenStep


class Inspections:
    """Looks into one session. `bits` are the entropies of the message that is looked at: a list that grows with it."""

    def __init__(self, session: ChatSession, store: Store | None) -> None:
        self.session, self.store = session, store
        self.bits: list[float | None] = []
        self._bits_of = -1
        self._snapshots: dict[tuple[str, int], TokenStep] = {}

    def subject(
        self, place: TokenPlace | None, cursor: TokenPlace | None, names: Names, facts: r.ModelFacts | None
    ) -> Subject:
        """The token at a place; `cursor` is None while the newest is followed. `facts` are those of the model that
        there is: it can be asked where the conversation is its own, and nothing is under way."""
        exact, whose = None, self.session.transcript.model_at(place)
        at, instead, model, waits = self.at(place, names, live=cursor is None), None, "", ""
        if at is None and cursor is not None:
            heard = self.session.transcript.shown[cursor.block].message.role == "tool"
            waiting = "measured as a whole" if heard else "needs the model" if facts is None else "looking…"
            instead = self._unmeasured(cursor, waiting)
        if at is not None and place is not None and not at.upcoming:
            exact = partial(self._exactly, at, place)
            if self.session.running:
                waits = "the rest when the answer has ended"
            elif facts is None or facts.name != whose:
                waits = f"the rest needs {whose or 'a model'}: /model loads it"
            else:
                model, waits = facts.name, self._unlike(at)
        cursor_at = cursor.token if cursor is not None else None
        kept = self.session.conversation.reasons
        reasons = kept.get(self.unit(place), ()) if kept and place is not None else ()
        choice, unit = self._choice(place, live=cursor is None)
        return Subject(at, self.around(place), cursor_at, instead, model, waits,
                       exact=exact, reasons=reasons, choice=choice, unit=unit)  # fmt: skip

    def _choice(self, place: TokenPlace | None, *, live: bool) -> tuple[ToolChoice | None, int]:
        """The choice of a tool that a token is of, and which of its node's that is: where it was open, all of a call,
        and an answer that has just ended."""
        if place is None or (live and self.session.running):
            return None, 0
        node, unit = self.unit(place)
        choice = self.session.conversation.nodes[node].choice
        here = choice is not None and (live or unit == choice.at or (unit > choice.at and bool(choice.calls)))
        return (choice if here else None), unit

    def unit(self, place: TokenPlace) -> tuple[str, int]:
        """The node and the unit of it that a token is."""
        shown = self.session.transcript.shown[place.block]
        return places.of(shown.message, [token.text for token in shown.block.tokens], place.token)

    def _unlike(self, at: Inspection) -> str:
        """Difference of adapters between the model that drew a token and the one there is, in words; "" for none."""
        on, drawn = self.session.adapters, at.drawn_by
        under = sampling_text.adapters(drawn) if drawn is not None else on
        return (
            "" if under == on else f"the rest needs {under or 'no adapter'}, as it was drawn; now {on or 'no adapter'}"
        )

    def at(self, place: TokenPlace | None, names: Names, *, live: bool) -> Inspection | None:
        """The token at a place, where it was drawn or measured; `live` where no cursor holds it. In step mode the next
        one is looked at then."""
        session, transcript, recipe = self.session, self.session.transcript, self.session.recipe
        peek = session.peek
        if peek is not None and live and peek.snapshot is not None and peek.entropy is not None:
            before, steps = transcript.history(None)
            number = len(steps) + 1
            return Inspection(peek, recipe, names, "NEXT", before, steps, live=True, upcoming=True, number=number)
        step = transcript.step_at(place) if place is not None else None
        if place is None or step is None:
            return None
        before, steps = transcript.history(place)
        message = transcript.shown[place.block].message
        ranked = choice(transcript.conversation, message, place.token)
        whole, title = self._whole(place, step), self._title(place)
        shown = transcript.shown[place.block].block.tokens[place.token]
        return Inspection(
            whole, recipe, names, title, before, steps, message.last.seed, live=live, key=place, choice=ranked,
            number=place.token + 1, moved=f"from here on {shown.moved}" if shown.moved else "",
        )  # fmt: skip

    def _exactly(self, at: Inspection, place: TokenPlace) -> Inspection:
        """An inspection with all ids that are known to stand before its token, and the prompt that the engine reads."""
        transcript = self.session.transcript
        ids, _ = transcript.ids_before(place)
        return replace(at, before=ids, steps=(), prompt=transcript.context_before(place))

    def _unmeasured(self, place: TokenPlace, why: str) -> CandidateTable:
        """A word that has no distribution yet."""
        token = self.session.transcript.shown[place.block].block.tokens[place.token]
        word = cells.piece_text(token.text.encode())
        return CandidateTable(self._title(place), word, why, (), 0, (0, 0), (0.0, 0.0), "", True, False)

    def around(self, place: TokenPlace | None) -> list[float | None]:
        """The entropies, in bits, of the message at a place."""
        shown = self.session.transcript.shown
        if place is not None and place.block < len(shown):
            steps = shown[place.block].steps
            if self._bits_of != place.block or len(self.bits) > len(steps):
                self._bits_of, self.bits = place.block, []
            entropies(steps, self.bits)
        return self.bits

    def forget(self) -> None:
        """Forget the entropies: another lineage is shown."""
        self._bits_of = -1

    def _title(self, place: TokenPlace) -> str:
        return f"TOKEN {place.token + 1}/{len(self.session.transcript.shown[place.block].block.tokens)}"

    def _whole(self, place: TokenPlace, step: TokenStep) -> TokenStep:
        """A step with its snapshot: read from disk where the conversation was reopened."""
        if step.snapshot is not None or self.store is None or step.logprob is None:
            return step
        token = place.token
        for segment in self.session.transcript.shown[place.block].message.segments:
            if token < segment.length:
                key = (segment.node.id, token)
                if key not in self._snapshots:
                    stored = self.store.snapshot(self.session.conversation.id, *key)
                    whole = step if stored is None else replace(step, snapshot=stored[0], removed_by=stored[1])
                    self._snapshots[key] = whole
                return self._snapshots[key]
            token -= segment.length
        return step
