"""`likely run`: one answer on stdout."""

import sys
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from click.core import ParameterSource

from likely.app.cli.options.factorization import is_diffusion, unmasking
from likely.app.cli.options.opening import (
    RuledCommand,
    activation_option,
    adapter_option,
    check_place,
    context_option,
    model_option,
    open_session,
    parallel_option,
    read_prompt,
    rope_option,
    system_option,
    with_rope,
)
from likely.app.cli.options.sampling import read_recipe, sampling_options, says_recipe
from likely.app.cli.options.searching import (
    is_constrained,
    known_ends,
    read_constraint,
    read_search,
    search_options,
    searches,
)
from likely.app.cli.options.speed import bound, cache_options, read_strategy, speed_options
from likely.app.cli.options.table_options import table_options
from likely.app.cli.options.tool_options import ToolsAsked, tool_options
from likely.app.store import system_prompts
from likely.engine.base import distributed as ranks
from likely.engine.base.errors import ParameterError
from likely.engine.base.files.home import home
from likely.engine.decode.prompt import single_turn
from likely.engine.measure import choice_scores
from likely.engine.sampling.thinking import SWITCHES, with_thought, without_thought
from likely.engine.sampling.trace.step import SamplingConfig
from likely.engine.sampling.trace.unmasking import Unmasking

if TYPE_CHECKING:
    from likely.engine.decode.session import Session
    from likely.engine.text.tokenizer import Tokenizer


@click.command("run", cls=RuledCommand)
@click.argument("prompt", required=False)
@model_option
@rope_option
@context_option
@adapter_option
@click.option(
    "--file",
    "-f",
    "files",
    type=click.Path(path_type=Path),
    multiple=True,
    help="Read a file too, after PROMPT and a blank line. Several follow each other.",
)
@system_option
@click.option("--raw", is_flag=True, help="Continue the prompt as it is, without the chat template.")
@click.option("--prefill", metavar="TEXT", help="Words that the answer begins with.")
@click.option("--think", metavar="on|off|N", help="Whether to think, for models that can; N: for at most N tokens.")
@click.option("--hide-thinking", is_flag=True, help="Write the answer alone; its thought is counted.")
@click.option("--json", "as_json", is_flag=True, help="One object a token on stdout.")
@click.option("--special", is_flag=True, help="Show control tokens too.")
@click.option("--quiet", "-q", is_flag=True, help="No statistics on stderr.")
@click.option("--save", type=click.Path(path_type=Path, dir_okay=False), help="Write the trace of the run to a file.")
@click.option(
    "--replay",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Show a saved trace as it was drawn, or under the parameters that are given, without running the model.",
)
@click.option("--answers", "-n", type=click.IntRange(1, 256), help="Draw so many answers side by side, or the n best.")
@click.option(
    "--resample",
    is_flag=True,
    help="Of -n answers that a grammar binds, draw one by its weight: nearer to the model's p of what matches.",
)
@parallel_option
@activation_option
@speed_options
@search_options
@table_options(Unmasking)
@tool_options
@sampling_options
def command(
    prompt: str | None,
    model: str,
    rope: str | None,
    context: int | None,
    adapters: tuple[str, ...],
    files: tuple[Path, ...],
    system: str | None,
    raw: bool,
    prefill: str | None,
    think: str | None,
    hide_thinking: bool,
    as_json: bool,
    special: bool,
    quiet: bool,
    save: Path | None,
    replay: Path | None,
    answers: int | None,
    resample: bool,
    parallel: str | None,
    activation_bits: int | None,
    strategy: str | None,
    draft_model: str | None,
    ngram: bool,
    prefix_cache: bool,
    kv_bits: str | None,
    kv_budget: float | None,
    eos: tuple[int, ...],
    **values: Any,
) -> None:
    """Answer PROMPT, and what is piped in after it, on stdout, with statistics on stderr.

    \b
    likely run "Name three birds." --temp 0
    likely run --raw "Once upon a time" --max-tokens 40 --top-p 0.9
    git diff | likely run "A commit message for this:"
    likely run "Summarise:" -f notes.txt --system editor.txt
    likely run "Where is Rome?" --beam 4 -n 2
    likely run "Tea?" --choice yes --choice no     drawn by p(text) among the choices
    likely run "When?" --regex "[0-9]{4}" -n 16 --resample
    likely run -M mine "Where is Rome?" --steps 16 -m 64    a diffusion model of yours (docs/diffusion.md)
    likely run "Say hi" --save run.jsonl && likely run --replay run.jsonl --temp 2
    likely run "What is 17 * 23?" --tools calculator    each call waits for a yes (docs/tools.md)
    mlx.launch -n 2 -- likely run "Say hi"    two processes share the model (docs/distributed.md)
    """
    search = read_search(values)
    read_constraint(values, 0)  # said before the model is loaded
    how = unmasking(values)
    recipe, limits = read_recipe(
        values, searches=search is not None or searches(strategy), whole=resample or bool(values["choice"])
    )
    if ranks.joined() is not None:
        _refuse_alone(
            {
                "--replay": replay,
                "--strategy": strategy,
                "a search": search,
                "--draft-model": draft_model,
                "--ngram": ngram,
                "--prefix-cache": prefix_cache,
                "--kv-budget": kv_budget,
                "--tools": ToolsAsked.read(values),
                "no PROMPT": prompt == "-" or (prompt is None and not files),
            }
        )
    if replay is not None:
        if prompt is not None or save is not None:
            raise click.UsageError("--replay shows a saved run: it takes no PROMPT and no --save")
        from likely.app.cli.generate.replaying import show_replay

        show_replay(replay, recipe if says_recipe(values) else None, as_json=as_json)
        return
    thinking, budget = read_think(think)
    if budget is not None:
        if strategy or draft_model or ngram or search is not None:
            raise click.UsageError("--think N is a way of finding tokens itself: leave the other out, or --think on")
        strategy = f"budget {budget}"
    decoding = read_strategy(strategy, draft_model, ngram, search, answers, constrained=is_constrained(values))
    if resample and (answers or 1) < 2:
        raise click.UsageError("--resample draws one of several answers: say of how many with -n")
    system = system_prompts.read(home(), system) if system else system
    if raw and system:
        raise ParameterError(
            "--raw gives the model the prompt alone, so there is no place for --system: drop one of them"
        )
    check_place(save)
    text = read_prompt(prompt, "PROMPT", files, alone=ranks.joined() is None)
    if not text.strip():
        raise ParameterError("there is nothing to answer: the prompt is empty")
    opening = partial(
        open_session,
        with_rope(model, rope),
        adapters=adapters,
        parallel=parallel,
        activation_bits=activation_bits,
        context=context,
        **cache_options(kv_bits, kv_budget, prefix_cache),
    )
    if (asked := ToolsAsked.read(values)) is not None:
        if decoding.SEARCHES:
            raise click.UsageError("tools are called where an answer is drawn: leave the search out")
        from likely.app.cli.generate.tooled import ToolDesk, show_tooled
        from likely.app.tools import specs
        from likely.app.tools.servers import ToolServers

        with ToolServers(specs.read(asked.servers, home())) as servers:
            desk = ToolDesk(servers, asked, as_json=as_json)
            desk.listed()
            desk.check()
            session = opening()
            session.tokenizer.eos |= known_ends(eos, session)
            show_tooled(
                *(session, (("user", text),), desk, asked),
                system=system or "", thinking=told(session.tokenizer, thinking, budget), recipe=recipe, limits=limits,
                strategy=bound(decoding, session), forced=session.tokenizer.encode(prefill) if prefill else [],
                as_json=as_json, quiet=quiet, hide_thinking=hide_thinking, save=save,
            )  # fmt: skip
        return
    session = opening()
    ctx = click.get_current_context()
    by_diffusion = is_diffusion(
        session, {p for p in ctx.params if ctx.get_parameter_source(p) is ParameterSource.COMMANDLINE}
    )
    ids = prompt_ids(
        session, text, system=system, raw=raw, thinking=thinking if raw else told(session.tokenizer, thinking, budget)
    )
    mark = ""
    if is_constrained(values):
        thinks = thinking or budget is not None
        ids, mark = with_thought(ids, session.tokenizer) if thinks else (without_thought(ids, session.tokenizer), "")
    session.tokenizer.eos |= known_ends(eos, session)
    if by_diffusion:
        from likely.app.cli.generate.diffused import show_diffused

        show_diffused(
            *(session, ids, how, recipe, limits),
            max_tokens=values["max_tokens"], prefill=session.tokenizer.encode(prefill) if prefill else (),
            as_json=as_json, special=special, quiet=quiet, save=save,
        )  # fmt: skip
        return
    from likely.app.cli.generate.answers import show_answers, show_choices
    from likely.engine.decode.loop.control import RunControl

    if (constraint := read_constraint(values, len(ids), mark)) is not None:
        recipe = replace(recipe, transforms=(constraint, *recipe.transforms))
    forced = session.tokenizer.encode(prefill) if prefill else []
    decoding = bound(decoding, session)
    if values["choice"] and not mark:
        among = choice_scores.scored(session, ids, values["choice"])
        if not any(list(choice.tokens[: len(forced)]) == forced for choice in among):
            raise ParameterError("no --choice begins with --prefill, in this model's tokens: drop one of them")
        law = choice_scores.law(among, SamplingConfig() if decoding.RANKS else recipe)
        recipe = choice_scores.bound(among, recipe, decoding, len(ids))
        show_choices(among, law.tolist(), as_json=as_json, quiet=quiet)
    control = RunControl(recipe)
    control.force(forced)
    if decoding.SEARCHES:
        from likely.app.cli.generate.hypotheses import show_hypotheses

        show_hypotheses(
            *(session, ids, control, limits),
            strategy=decoding, as_json=as_json, special=special, quiet=quiet, save=save,
        )  # fmt: skip
        return
    if answers and answers > 1 and recipe.greedy and not quiet:  # -n is the number of tokens in other programs
        click.echo(
            f"{answers} answers at temperature 0 are the same one: raise --temp; of so many tokens: -m", err=True
        )
    show_answers(
        *(session, ids, control, limits),
        n=answers or 1, strategy=decoding, as_json=as_json, special=special, quiet=quiet, save=save,
        resample=resample, hide_thinking=hide_thinking,
    )  # fmt: skip


def _refuse_alone(flags: Mapping[str, object]) -> None:
    """UsageError for what one process alone can do: several would do it differently, or wait for input without end."""
    for name, value in flags.items():
        if value:
            raise click.UsageError(f"{name} is for one process: start it without mlx.launch")


def read_think(text: str | None) -> tuple[bool | None, int | None]:
    """Whether to think, and for at most how many tokens, as --think has it."""
    if text is None or text in ("on", "off"):
        return (None if text is None else text == "on"), None
    if not text.isdecimal() or not int(text):
        raise click.UsageError(f"--think takes on, off or a number of tokens, got {text}")
    return None, int(text)


def told(tokenizer: "Tokenizer", thinking: bool | None, budget: int | None) -> bool | None:
    """Whether the template is told to think: by a budget, too, where it can be told."""
    return True if budget is not None and any(name in tokenizer.template_reads for name in SWITCHES) else thinking


def prompt_ids(
    session: "Session", text: str, *, system: str | None, raw: bool, thinking: bool | None = None
) -> list[int]:
    """The prompt as the model reads it; says on stderr when a model without a chat template gets plain text."""
    if not raw and session.tokenizer.chat_template is None:
        if system:
            raise ParameterError(
                f"{session.info.name} has no chat template, so there is no place for --system: put it into the prompt"
            )
        if sys.stderr.isatty():
            click.echo(f"{session.info.name} has no chat template: it continues the text as it is", err=True)
    prompt = single_turn(text, session.tokenizer, system=system or "", raw=raw)
    if thinking is not None and not prompt.turns:
        raise ParameterError("--think is told to the chat template, and there is none here: leave it out")
    return replace(prompt, thinking=thinking).ids(session.tokenizer)
