"""Places in a conversation: a search over every branch finds all that a slow reading of its texts finds."""

from dataclasses import replace

import pytest

from likely.app.tui.chat.inspecting import places
from likely.engine.chat.conversation import Conversation, Fork, Node
from tests.support.model import ScriptedEngine


@pytest.mark.parametrize("query", ["a", "ab", "B", "", "  ", "x.", "🙂", "İ", "b x", "absent"])
def test_every_match_is_at_the_unit_that_begins_it(query: str) -> None:
    texts = [" ab", " 🙂", " ", "x.", "", " İ", " a", "b", " ab"]
    step = ScriptedEngine().score([300])[0]
    drawn = tuple(replace(step, text=text, piece=text.encode()) for text in texts)
    talk = Conversation("c").add(Node("u", Fork(), "user", text="ab x. aB"))
    talk = talk.add(Node("a", Fork("u"), "assistant", steps=drawn, finish="eot"))
    talk = talk.add(Node("b", Fork("a", 2), "assistant", steps=drawn[3:], joins=True, finish="eot"))

    def starts(text: str) -> list[int]:
        size = len(query)
        return [i for i in range(len(text)) if query.strip() and text[i : i + size].lower() == query.lower()]

    def unit(texts: list[str], start: int) -> int:
        return next(i for i in range(len(texts)) if start < len("".join(texts[: i + 1])))

    wanted = [("u", start) for start in starts("ab x. aB")]
    for start in starts("".join(texts[:2] + texts[3:])):
        at = unit(texts[:2] + texts[3:], start)
        wanted.append(("a", at) if at < 2 else ("b", at - 2))
    wanted += [("a", at) for start in starts("".join(texts)) if (at := unit(texts, start)) >= 2]
    assert [(found.node, found.unit) for found in places.search(talk, query)] == wanted
