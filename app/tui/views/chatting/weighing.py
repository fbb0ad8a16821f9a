"""Weighing of a thought: when a person opens it, what it says of the answer is measured, and told beside it."""

from typing import Any

from likely.app.jobs import calls
from likely.app.jobs.calls import call
from likely.app.jobs.worker import Closed
from likely.app.tui.views.chatting.chat_parts import ChatParts
from likely.engine.sampling.thought_information import ThoughtInformation


def weigh(screen: ChatParts, index: int) -> None:
    """Have the thought of a message weighed, once, where that is open and was drawn by the model that there is."""
    engine, transcript = screen.host.engine, screen.chat.transcript
    if engine.current is None or screen.chat.diffuses or not transcript.shown:
        return
    if (asked := transcript.thought_at(index % len(transcript.shown))) is None:
        return
    node = transcript.shown[index].message.last.id

    def weighed(job: int, events: list[Any]) -> None:
        found = [event for event in events if isinstance(event, ThoughtInformation)]
        if found or any(isinstance(event, Closed) for event in events):  # it is asked for again where it failed
            transcript.weigh(node, found[0] if found else None)
            screen.pane.view.redraw()

    transcript.weighed[node] = None
    engine.submit(call(calls.weigh_thought, engine.current.name, *asked, bool(screen.chat.adapters)), weighed)
