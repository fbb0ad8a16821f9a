"""Options that change how fast an answer comes and what it holds in memory: speculation and the cache's precision."""

from typing import TYPE_CHECKING, Any

import click

from likely.app.cli.options.float_range import FloatRange
from likely.app.cli.options.table_options import options
from likely.engine.base.errors import ParameterError
from likely.engine.decode.loop.strategy import Strategy
from likely.engine.decode.strategy_table import forms, parse

if TYPE_CHECKING:
    from likely.engine.decode.session import Session


class StrategyOption(click.Option):
    """An option whose help names the strategies: all are imported for it, and for nothing less."""

    def get_help_record(self, ctx: click.Context) -> tuple[str, str] | None:
        self.help = (self.help or "").replace("FORMS", forms())
        return super().get_help_record(ctx)


speed_options = options(
    click.option("--strategy", cls=StrategyOption, metavar="NAME ...", help="How tokens are found: FORMS."),
    click.option("--draft-model", metavar="MODEL", help="A smaller model of the same tokenizer guesses ahead."),
    click.option("--ngram", is_flag=True, help="Guess ahead what followed earlier in the text."),
    click.option("--prefix-cache", is_flag=True, help="Keep what the model remembers of prompts for the next run."),
    click.option("--kv-bits", type=click.Choice(["4", "8"]), help="Pack the cache's older keys and values."),
    click.option(
        "--kv-budget",
        type=FloatRange(min=0, min_open=True),
        metavar="MB",
        help="Most that keys and values may take: an answer ends before the next would not fit.",
    ),
)


def cache_options(kv_bits: str | None, kv_budget: float | None, prefix_cache: bool) -> dict[str, Any]:
    """Keyword arguments of the session and its caches."""
    flags = {"bits": kv_bits and int(kv_bits), "kv_budget": kv_budget and int(kv_budget * 1e6)}
    return {"keep_prefix": prefix_cache} | {name: value for name, value in flags.items() if value is not None}


def read_strategy(
    text: str | None, draft_model: str | None, ngram: bool, search: Strategy | None = None, answers: int | None = None,
    *, constrained: bool = False,
) -> Strategy:  # fmt: skip
    """The strategy that the options ask for, for so many answers, which a constraint binds perhaps: of a search the
    best."""
    if (text is not None) + (draft_model is not None) + ngram + (search is not None) > 1:
        raise click.UsageError(
            "--strategy, --draft-model, --ngram, --beam and the like say how tokens are found: choose one of them"
        )
    if draft_model is not None:
        from likely.engine.decode.drafts.prompt_lookup import Drafting

        strategy: Strategy = Drafting(draft_model)
    elif ngram:
        strategy = parse("ngram")
    else:
        strategy = parse(text or "", constrained=constrained) if search is None else search
    if answers is not None:
        try:
            if strategy.SEARCHES:
                return strategy.best(answers)
            strategy.check(answers)
        except ParameterError as error:
            raise click.UsageError(f"{error} (--answers)") from None
    return strategy


def bound(strategy: Strategy, session: "Session") -> Strategy:
    """The strategy with the models that it needs, which are loaded now."""
    from likely.app.cli.options.opening import Progress
    from likely.engine.weights.sources.checkpoint import load

    with Progress() as progress:
        models = {name: load(name, progress=progress.show) for name in strategy.needs}
    return strategy.bind(models, session.tokenizer)
