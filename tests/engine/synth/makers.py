"""A generator whose law is a table, and pipelines of it."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from likely.engine.decode.session import Session
from likely.engine.measure.synth import pipeline
from likely.engine.measure.synth.config import PipelineConfig, configure
from tests.fakes import EOS, VOCAB, ByteTokenizer, FakeCheckpoint, MarkovModel

PROBLEMS = [{"prompt": f"what is {i}?", "answer": "7"} for i in range(12)]


def table(shares: dict[str, float]) -> np.ndarray:
    """After `?` one of these characters with its share, and then the end."""
    found = np.full((VOCAB, VOCAB), -np.inf)
    found[:, EOS] = 0.0
    found[ord("?")] = -np.inf
    for said, share in shares.items():
        found[ord("?"), ord(said)] = np.log(share)
    return found


class PlainTokenizer(ByteTokenizer):
    """Of a base model."""

    chat_template = None
    end = None


class CountedSession(Session):
    """Counts what it was asked for."""

    drawn = 0

    def generate(self, *args: Any, **more: Any) -> Any:
        self.drawn += 1
        return super().generate(*args, **more)


def session(law: np.ndarray) -> CountedSession:
    return CountedSession(FakeCheckpoint(MarkovModel(law), PlainTokenizer()))  # type: ignore[arg-type]


def rows_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def write_rows(path: Path, rows: list[dict[str, Any]]) -> str:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


def config(folder: Path, generate: dict[str, Any], **tables: Any) -> PipelineConfig:
    """Problems beside the folder, where a task is wanted and none is named."""
    if generate.get("method", "verified") in ("verified", "preference") and "task" not in generate:
        generate = {"task": write_rows(folder.with_name("problems.jsonl"), PROBLEMS), **generate}
    return configure({"out": str(folder), "seed": 3, "generate": generate, **tables})


def run(made: PipelineConfig, using: Session) -> list[pipeline.SynthEvent]:
    return list(pipeline.run(made, lambda name, adapters: using))
