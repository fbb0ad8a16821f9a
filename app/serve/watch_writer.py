"""Writer of the lines for one who watches a server: its requests' events as JSON, which `app.watch.lines` reads.

Knows no transport.
"""

import base64
from collections.abc import Iterator
from dataclasses import asdict, fields
from importlib.metadata import version
from typing import Any

from likely.app.jobs.worker import Closed, Failed
from likely.app.serve.requests import AnswerOpened, AnswerRequest, EmbeddingRequest
from likely.app.serve.watch.lines import EVENTS, FORM
from likely.app.store.stored_rows import figures_row
from likely.engine.decode.prompt import Prompt
from likely.engine.decode.strategy_table import PLAIN
from likely.engine.sampling.trace.file import recipe_row, step_row
from likely.engine.sampling.trace.step import SamplingConfig


def began() -> dict[str, Any]:
    """The first line of all."""
    return {"likely": version("likely"), "form": FORM}


class WatchWriter:
    """The lines for one who watches: it remembers what was told of recipes and vocabularies."""

    def __init__(self) -> None:
        self._recipes: dict[int, list[SamplingConfig]] = {}  # by request
        self._models: set[str] = set()  # whose vocabulary was told

    def lines(self, request: int, event: Any, *, late: bool = False) -> Iterator[dict[str, Any]]:
        """The lines for an event, or for the events of a tuple; none for what nobody watches."""
        for single in event if isinstance(event, tuple) else (event,):
            if (line := self._line(request, single)) is not None:
                yield {"request": request, **line, **({"late": True} if late else {})}

    def _line(self, request: int, event: Any) -> dict[str, Any] | None:
        match event:
            case AnswerRequest():
                kind = "chat" if event.prompt.messages else "text"
                how = "" if event.strategy == PLAIN else str(event.strategy)
                texts = 0 if event.max_tokens == 0 else 1 if event.strategy.SEARCHES else event.drawn
                order = {"texts": texts, "seed": event.seed, "how": how}
                return {"asked": _turns(event.prompt), "kind": kind, "model": event.model, **order}
            case EmbeddingRequest():
                turns = [turn for prompt in event.texts for turn in _turns(prompt)]
                return {"asked": turns, "kind": "embedding", "model": event.model}
            case AnswerOpened(facts, _, _, ids):
                opened = {"opened": list(ids), "model": facts.name, "context": facts.context}
                if facts.name not in self._models:
                    self._models.add(facts.name)
                    opened["pieces"] = [base64.b64encode(piece).decode("ascii") for piece in facts.vocabulary]
                    opened["eos"] = sorted(facts.eos)
                return opened
            case Failed(line):
                return {"failed": line}
            case Closed():
                self._recipes.pop(request, None)
                return {"closed": True}
        return self._event(request, event) if type(event) in EVENTS.values() else None

    def _event(self, request: int, event: Any) -> dict[str, Any]:
        row = {field.name: getattr(event, field.name) for field in fields(event)}
        line = {"event": type(event).__name__.lower(), **row}
        if "step" in row:
            recipes, recipe = self._recipes.setdefault(request, []), row["step"].recipe
            if recipe not in recipes:
                recipes.append(recipe)
                line["recipe"] = recipe_row(recipe)
            line["step"] = step_row(row["step"], recipes.index(recipe))
        if "stats" in row:
            line["stats"] = asdict(row["stats"])
        if "figures" in row:
            line["figures"] = figures_row(row["figures"])
        return line


def _turns(prompt: Prompt) -> list[tuple[str, str]]:
    """Roles and texts of a prompt; ids of tokens are counted."""
    messages = [(str(message.get("role", "")), _text(message.get("content"))) for message in prompt.messages]
    parts = [("text", part if isinstance(part, str) else f"({len(part)} tokens)") for part in prompt.parts]
    return messages + parts


def _text(content: Any) -> str:
    return content if isinstance(content, str) else "" if content is None else str(content)
