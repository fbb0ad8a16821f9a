"""One conversation and at most one run, without a screen: what is asked of the worker, and when."""

from app import requests as r
from app.tui.chat.chat_session import ChatSession
from engine.conversation import Conversation, Fork, Node

FACTS = r.ModelFacts("m", 100, (b"a", b"b"), chat=True)


class Asked(list[r.ModelRequest]):
    """A worker that takes everything and answers nothing."""

    def session(self, *nodes: Node) -> ChatSession:
        talk = Conversation("c")
        for node in nodes:
            talk = talk.add(node)
        return ChatSession(talk, self.send, clock=lambda: 0.0)

    def send(self, request: r.ModelRequest) -> int:
        self.append(request)
        return len(self)

    @property
    def runs(self) -> list[r.Generate]:
        return [each for each in self if isinstance(each, r.Generate)]


ASKED = Node("u", Fork(), "user", text="Why?")


def test_an_empty_chat_has_nothing_to_draw_again_or_to_go_on_with() -> None:
    asked = Asked()
    session = asked.session()
    session.ready(FACTS)
    assert not session.regenerate() and not session.resume() and session.run is None and not asked.runs


def test_answering_during_a_run_cancels_it() -> None:
    asked = Asked()
    session = asked.session(ASKED)
    session.ready(FACTS)
    session.answer(Fork("u"))
    first = session.run
    assert first is not None and not first.control.cancelled
    session.answer(Fork("u"))
    assert first.control.cancelled and session.run is not None and session.run is not first
    assert not session.run.control.cancelled and len(asked.runs) == 2


def test_an_answer_that_waits_for_a_model_keeps_its_tokens_and_words() -> None:
    asked = Asked()
    session = asked.session(ASKED)
    session.answer(Fork("u"), tokens=[1, 0], force="words", seed=7)
    assert not asked.runs and session.waiting is not None
    session.ready(FACTS)
    (run,) = asked.runs
    assert (list(run.control.forced), run.force, run.seed) == ([1, 0], "words", 7)


def test_an_answer_that_was_stopped_while_it_waited_does_not_begin() -> None:
    asked = Asked()
    session = asked.session(ASKED)
    session.answer(Fork("u"))
    assert not session.stop() and session.waiting is None
    session.ready(FACTS)
    assert not asked.runs and session.run is None
