"""Options of searches: short for a strategy's text form, which `--strategy` takes as it is."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from likely.app.cli.options.table_options import options
from likely.engine.base.errors import ParameterError
from likely.engine.decode.loop.strategy import EARLY, Strategy
from likely.engine.decode.strategy_table import parse
from likely.engine.measure import choice_scores
from likely.engine.measure.answer_form import AnswerForm
from likely.engine.sampling.transforms import Constraint

if TYPE_CHECKING:
    from likely.engine.decode.session import Session

search_options = options(
        click.option("--beam", type=int, metavar="K", help="Search with K beams: the K likeliest texts, best first."),
        click.option("--length-penalty", type=float,
                     help="A score is the sum of logprob_after / tokens to this power. Default: 1, constrained 0."),
        click.option("--early-stopping", type=click.Choice(EARLY), help="When a beam search ends. Default: false."),
        click.option("--groups", type=int, metavar="G", help="Part the beams into groups that repel each other."),
        click.option("--diversity", type=float, help="What a token of an earlier group costs. Default: 0.5."),
        click.option("--stochastic-beam", type=int, metavar="K", help="Draw K different texts, each as by sampling."),
        click.option("--exact-mode", is_flag=True,
                     help="Look for the text with the largest log p of all, and say if it is proven."),
        click.option("--budget", type=int, metavar="N", help="Passes that it may take. Default: 1000."),
        click.option("--regex", metavar="RE",
                     help="An answer that matches all of a regular expression; drawn token by token, see --resample."),
        click.option("--json-schema", metavar="FILE",
                     help="An answer that is JSON by a schema; drawn token by token, see --resample."),
        click.option("--choice", multiple=True, metavar="TEXT",
                     help="An answer that is one of these, drawn by its share of their probability; repeatable."),
        click.option("--eos", type=click.IntRange(0), multiple=True, metavar="ID", help="One more end of text."),
)  # fmt: skip


def read_search(values: Mapping[str, Any]) -> Strategy | None:
    """The search that the options ask for."""
    beam, groups = values["beam"], values["groups"]
    if values["stochastic_beam"] is not None:
        from likely.engine.decode.searches.stochastic_beam import StochasticBeam

        return StochasticBeam(values["stochastic_beam"])
    if values["exact_mode"]:
        from likely.engine.decode.searches.exact import ExactMode

        return ExactMode() if values["budget"] is None else ExactMode(values["budget"])
    if beam is None:
        return None
    from likely.engine.decode.searches.beam import CONSTRAINED_PENALTY, Beam, DiverseBeam

    penalty = values["length_penalty"]
    if penalty is None and is_constrained(values):
        penalty = CONSTRAINED_PENALTY
    settings = {"penalty": penalty, "early": values["early_stopping"], "diversity": values["diversity"]}
    options = {name: value for name, value in settings.items() if value is not None}
    return Beam(beam, **options) if groups is None else DiverseBeam(beam, apart=groups, **options)


def is_constrained(values: Mapping[str, Any]) -> bool:
    """Whether a constraint is asked for."""
    return any(values[name] for name in ("regex", "json_schema", "choice"))


def read_constraint(values: Mapping[str, Any], start: int, after: str = "") -> Constraint | None:
    """The grammar that binds the answer, behind so many tokens and behind the mark `after` a thought, where one comes
    first; else none for choices, which a model has to score.

    DataError for no file, ParameterError for what cannot be followed.
    """
    if values["choice"]:
        choice_scores.check(values["choice"])
        if after:
            return AnswerForm("choice", "", texts=values["choice"]).constraint(start, after)
    flags = {"regex": values["regex"], "json-schema": values["json_schema"]}
    forms = (AnswerForm.read(kind, text) for kind, text in flags.items() if text is not None)
    return next((form.constraint(start, after) for form in forms), None)


def searches(text: str | None) -> bool:
    """Whether `--strategy TEXT` is a search, to which no preset's transforms are applied unasked."""
    return parse(text or "").SEARCHES


def known_ends(eos: Sequence[int], session: "Session") -> frozenset[int]:
    """The ids of `--eos`; ParameterError for one that the model does not have."""
    for token in eos:
        if token >= session.tokenizer.vocab_size:
            raise ParameterError(f"--eos must be an id below {session.tokenizer.vocab_size}, got {token}")
    return frozenset(eos)
