"""Looks of `likely inside`, by their flags: what the engine finds of a text, or of the model alone."""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import click
import numpy as np

from likely.app.words.units import bits
from likely.engine.base.errors import ParameterError
from likely.engine.decode.prompt import single_turn
from likely.engine.decode.session import Session
from likely.engine.inside import attribution, causes, heads, importance, lens, patching, steering, tuned_lens
from likely.engine.inside.embeddings import EmbeddingTable
from likely.engine.inside.merges import merges
from likely.engine.inside.questions import (
    Ablation,
    Accuracy,
    Attribution,
    HeadScores,
    Importance,
    Lens,
    Neighbour,
    Patching,
    Tokenisation,
    WordSum,
)
from likely.engine.inside.relations import accuracies, token_of
from likely.engine.inside.sink import without_first
from likely.engine.inside.subject import InspectedText, subject, transformer
from likely.engine.inside.summands import summands
from likely.engine.inside.tokenization import tokenisation
from likely.engine.inside.why import Omission, Why, named_token, written

WEIGHTS = (0.5, 1.0, 2.0, 4.0)  # of a direction, to see how far it moves a text
TEXTLESS = {"scores", "neighbours", "sum", "relations", "merges"}  # looks that need no text
Options = dict[str, Any]  # of the command line


def ids_of(session: Session, text: str, chat: bool) -> list[int]:
    """A text as the model reads it; ParameterError for a chat template that there is not."""
    if chat and session.tokenizer.chat_template is None:
        raise ParameterError(f"{session.info.name} has no chat template: leave out --chat")
    return single_turn(text, session.tokenizer, raw=not chat).ids(session.tokenizer)


def _lens(session: Session, text: InspectedText, options: Options) -> Lens:
    hidden = lens.states(text)
    return lens.lens(text, tuned_lens.kept(session.info).translate(hidden) if options["tuned"] else hidden)


def _heads(session: Session, text: InspectedText, options: Options) -> np.ndarray:
    return heads.entropies(text)


def _scores(session: Session, text: None, options: Options) -> HeadScores:
    """On random tokens that come twice, where nothing but the repetition can be known."""
    return heads.kinds(transformer(session), bos=session.tokenizer.encode("", bos=True))


def _attention(session: Session, text: InspectedText, options: Options) -> np.ndarray:
    layer, head = options["attention"]
    heads.check(text.model, layer, head)
    return _kept(heads.pattern(text, layer)[head], options)


def _rollout(session: Session, text: InspectedText, options: Options) -> np.ndarray:
    return _kept(heads.rolled_out(text), options)


def _kept(weights: np.ndarray, options: Options) -> np.ndarray:
    return without_first(weights) if options["without_first"] else weights


def _attribution(session: Session, text: InspectedText, options: Options) -> Attribution:
    return attribution.attribution(text, against=options["against"])


def _target(session: Session, text: InspectedText, options: Options) -> dict[str, Any]:
    target = _token(session, options["target"])
    foil = None if options["foil"] is None else _token(session, options["foil"])
    if foil == target:
        raise ParameterError(f"--foil wants another word than --target; got {options['foil'].strip()!r} for both")
    answer, *omissions = (event for event in causes.why(session, text.ids, target, foil) if event is not None)
    assert isinstance(answer, Why)
    layers, heads = answer.wrote.heads.shape
    rows = written(answer.wrote, layers * (heads + 1))
    return {
        "target": answer.target,
        "foil": answer.foil,
        "surprisal": [bits(-nats) for nats in answer.logprobs],
        "rank": answer.ranks.tolist(),
        "wrote": [(row.name, bits(row.nats)) for row in rows],
        "sum": bits(sum(row.nats for row in rows)),
        "left_out": [
            (omission.start, bits(omission.nats))
            for omission in omissions
            if isinstance(omission, Omission) and omission.stop - omission.start == 1
        ],
    }


def _token(session: Session, word: str) -> int:
    """The token of `--target` or `--foil`; says which it is where the word is several."""
    tokenizer = session.tokenizer
    named = named_token(word, partial(tokenizer.encode, special=True), tokenizer.piece)
    if named.note:
        click.echo(f"likely: {named.note}", err=True)
    return named.token


def _ablate(session: Session, text: InspectedText, options: Options) -> Ablation:
    return patching.ablate(text, *options["ablate"])


def _patch(session: Session, text: InspectedText, options: Options) -> Patching:
    corrupted = subject(session, ids_of(session, options["patch"], options["chat"]))
    return patching.patch(patching.pair(text, corrupted, foil=options["against"]), options["part"])


def _importance(session: Session, text: InspectedText, options: Options) -> Importance:
    return importance.importance(text)


def _spellings(session: Session, text: InspectedText, options: Options) -> Tokenisation:
    return tokenisation(session, options["spellings"], before=options["text"])


def _toward(session: Session, text: InspectedText, options: Options) -> dict[str, Any]:
    layer = len(text.model.blocks) // 2 if options["layer"] is None else options["layer"]
    toward, away = (
        [ids_of(session, prompt, options["chat"]) for prompt in options[side]] for side in ("toward", "away")
    )
    direction = steering.direction(text.reading, toward, away, layer, session.info.name)
    if options["direction"] is not None:
        steering.save(options["direction"], direction)
        click.echo(f"the direction is in {options['direction']}", err=True)
    kl = [steering.shift(text.reading, direction, text.ids, weight) for weight in WEIGHTS]
    return {"layer": layer, "norm": direction.norm, "weights": WEIGHTS, "kl": kl}


def _table(session: Session, options: Options) -> EmbeddingTable:
    return EmbeddingTable(transformer(session), "output" if options["output"] else "input")


def _neighbours(session: Session, text: None, options: Options) -> Sequence[Neighbour]:
    return _table(session, options).neighbours(options["neighbours"], centred=options["centred"])


def _sum(session: Session, text: None, options: Options) -> WordSum:
    table = _table(session, options)
    plus, minus = summands(options["sum"], partial(token_of, session.tokenizer))
    together = accuracies(table, session.tokenizer)[-1:]
    return table.word_sum(plus, minus, accuracy=together[0].left_out if together else None)


def _relations(session: Session, text: None, options: Options) -> Sequence[Accuracy]:
    relations = accuracies(_table(session, options), session.tokenizer)
    if not relations:
        raise ParameterError(f"{session.info.name} cuts the words of every relation: there is nothing to ask")
    return relations


def _merges(session: Session, text: None, options: Options) -> Sequence[Sequence[bytes]]:
    return merges(session.tokenizer, options["merges"])


LOOKS: dict[str, Callable[[Session, Any, Options], Any]] = {
    "lens": _lens,
    "heads": _heads,
    "scores": _scores,
    "attention": _attention,
    "rollout": _rollout,
    "attribution": _attribution,
    "target": _target,
    "ablate": _ablate,
    "patch": _patch,
    "importance": _importance,
    "spellings": _spellings,
    "toward": _toward,
    "neighbours": _neighbours,
    "sum": _sum,
    "relations": _relations,
    "merges": _merges,
}
