"""`likely reason`: several ways of thought to one question, and what is chosen of them."""

import sys
from itertools import zip_longest
from pathlib import Path
from typing import Any

import click

from likely.app.cli.generate.walks import walk_lines
from likely.app.cli.options.float_range import FloatRange
from likely.app.cli.options.opening import RuledCommand, adapter_option, model_option, open_session, read_prompt
from likely.app.cli.options.sampling import read_recipe, sampling_options
from likely.app.cli.options.table_options import map_option
from likely.app.words.heat import sanitize_line, visible
from likely.app.words.interruption import INTERRUPTED, stopped_by_signals
from likely.app.words.units import bits, json_line, many
from likely.engine.base.errors import ParameterError
from likely.engine.decode.answers.extraction import Extraction
from likely.engine.decode.answers.program import Verifier
from likely.engine.decode.answers.vote import interval
from likely.engine.decode.loop.control import RunControl
from likely.engine.measure.reason import belief
from likely.engine.measure.reason.paths import ReasoningPath, VoteOutcome
from likely.engine.measure.reason.reasoning import METHODS, Reasoning
from likely.engine.measure.reason.scorers import SCORERS, scorer
from likely.engine.measure.reason.thought import THOUGHTS, thought
from likely.engine.text.rows.training_row import read_map

BAR = 24  # cells of a full one


@click.command("reason", cls=RuledCommand)
@click.argument("question", required=False)
@model_option
@adapter_option
@click.option(
    "--method",
    type=click.Choice(METHODS),
    default="vote",
    show_default=True,
    help="Count equal answers, take the best by a score, draw from p to a power, part where the model is unsure, "
    "search by steps, or reflect.",
)
@click.option("--paths", "-n", type=int, help="How many ways of thought. Default: 16; of power 1.")
@click.option(
    "--template",
    default="plain",
    show_default=True,
    metavar="NAME",
    help=f"How it is asked: {', '.join(THOUGHTS)}, or a .toml file.",
)
@click.option(
    "--extract",
    metavar="RULE",
    help="How the answer is found: number, answer, choice, boxed, line, all, or a regular expression.",
)
@click.option(
    "--scorer", "by", metavar="NAME", help=f"What weighs a vote, or chooses the best: {', '.join(SCORERS)}, p-true."
)
@click.option("--verifier", metavar="COMMAND", help="A program that reads an answer as JSON and prints a number.")
@click.option("--timeout", type=float, default=10.0, show_default=True, help="Seconds that a verifier may take.")
@click.option(
    "--confidence",
    type=FloatRange(0, 1, min_open=True),
    help="Stop once the vote is decided with this probability, such as 0.95.",
)
@click.option(
    "--hopeless",
    type=FloatRange(0, 1),
    metavar="SHARE",
    help="Draw half of a vote, then give up paths that become less confident than this share of it was, such as 0.1.",
)
@click.option("--beams", type=int, default=4, show_default=True, help="Beginnings that are kept.")
@click.option("--step-end", default="\\n", show_default=True, help="The text that ends a step.")
@click.option("--alpha", type=float, default=4.0, show_default=True, help="The power of p.")
@click.option("--bits", type=float, default=3.0, show_default=True, help="Entropy at which ways part.")
@click.option(
    "--file",
    "-f",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Problems with answers, in any form that is trained on: what the method gains over greedy decoding.",
)
@map_option
@click.option("--limit", type=click.IntRange(1), help="At most so many problems.")
@click.option(
    "--analyse",
    is_flag=True,
    help="How many answers change when their chains are changed, and by --verifier the first wrong step.",
)
@click.option("--raw", is_flag=True, help="Continue the question as it is, without template and chat template.")
@click.option("--json", "as_json", is_flag=True, help="One object at the end.")
@sampling_options
def command(
    question: str | None, model: str, adapters: tuple[str, ...], method: str, paths: int | None, template: str,
    extract: str | None, by: str | None, verifier: str | None, timeout: float, confidence: float | None,
    hopeless: float | None, alpha: float, bits: float, file: Path | None, mapped: tuple[str, ...], limit: int | None,
    analyse: bool,
    beams: int, step_end: str, raw: bool, as_json: bool,
    **values: object,
) -> None:  # fmt: skip
    """Think about QUESTION several times, and choose an answer.

    \b
    likely reason "What is 17 * 23?" --method vote -n 16
    likely reason "..." --method best --scorer certainty
    likely reason "..." --method best --verifier "python check.py"
    likely reason "..." --method power --alpha 4
    likely reason --file sums.jsonl --template few-shot -n 16
    """
    recipe, limits = read_recipe(values, searches=method == "power")
    if file is not None and question is not None:
        raise click.UsageError("--file has the questions: it takes no QUESTION")
    asks = thought(template)
    n = paths if paths is not None else {"power": 1, "reflect": 2}.get(method, 16)
    way = Reasoning(
        asks, Extraction(extract or asks.extract), method, n,
        scorer(by) if by is not None and by != belief.NAME else None,
        Verifier.of(verifier, timeout) if verifier is not None else None,
        confidence, hopeless, alpha, limits.max_tokens, limits.stop, raw, by == belief.NAME, beams,
        step_end.replace("\\n", "\n"), bits,
    )  # fmt: skip
    shown = set[str]()

    def complain(path: ReasoningPath, line: str) -> None:  # once for each reason
        if line not in shown:
            click.echo(f"likely: path {path.branch + 1}: {line}", err=True)
        shown.add(line)

    if file is not None:
        from likely.app.cli.evaluation.problems import show_problems
        from likely.engine.measure.reason import problems

        questions = problems.read(file, limit, read_map(mapped))
        session = open_session(model, adapters=adapters)
        show_problems(session, questions, way, recipe, limits.seed, complain, analyse=analyse, as_json=as_json)
        return
    text = read_prompt(question, "QUESTION")
    if not text.strip():
        raise ParameterError("there is nothing to think about: the question is empty")
    session = open_session(model, adapters=adapters)

    control, drawn = RunControl(recipe), list[ReasoningPath]()
    with stopped_by_signals(control.cancel):
        for path in way.draw(session, way.ids(session, text), control, limits.seed, text):
            drawn.append(path)
            if not as_json:
                _show_path(path, len(drawn))

    verdict = way.choose(session, drawn, text, limits.seed, complain)
    if as_json:
        click.echo(json_line(verdict_object(verdict)))
    else:
        _show_verdict(verdict, sampled=method in ("vote", "best", "power"))
    if control.cancelled and not any(path.whole for path in drawn):
        sys.exit(INTERRUPTED)


def verdict_object(verdict: VoteOutcome) -> dict[str, Any]:
    """The object that `--json` prints."""
    paths = [
        {"text": path.text, "answer": path.answer, "logprob": path.logprob, "tokens": path.tokens}
        | ({"score": score} if verdict.scores else {})
        for path, score in zip_longest(verdict.paths, verdict.scores)
    ]
    return {"answer": verdict.answer, "votes": verdict.votes, "paths": paths, "tokens": verdict.tokens}


def _show_path(path: ReasoningPath, place: int) -> None:
    answer = path.answer if path.answer is not None else "no answer" if path.whole else "stopped"
    cut = " · cut at --max-tokens" if path.cut else ""
    spent = f"{path.tokens} tokens · {bits(-path.logprob):.1f} bits{cut}"
    click.echo(click.style(f"[{place}] {spent} · {sanitize_line(answer)}", bold=True))
    click.echo(visible(path.text.strip()))
    for line in walk_lines(path.figures, path.scores, path.tokens):
        click.echo(line, err=True)


def _show_verdict(verdict: VoteOutcome, *, sampled: bool) -> None:
    """The votes as bars, with 95 % intervals of their shares where paths are a sample; the answer; what was spent."""
    whole = sum(path.whole for path in verdict.paths)
    voting = whole - verdict.unanswered
    total = sum(verdict.votes.values())
    width = min(max((len(answer) for answer in verdict.votes), default=0), 40)
    click.echo()
    for answer, weight in verdict.votes.items():
        share = weight / total if total else 0.0
        low, high = interval(share * voting, voting)
        bar = "█" * round(BAR * share)
        between = f"  [{low:.0%}, {high:.0%}]" if sampled else ""
        click.echo(f"{visible(answer[:40]):{width}}  {bar:{BAR}} {share:4.0%}{between}")
    if verdict.unanswered:
        click.echo(f"{verdict.unanswered} of {many(whole, 'path')} gave no answer that the rule finds")
    if verdict.answer is None:
        judged = " that was judged" if verdict.scores and verdict.votes else ""
        click.echo(f"no path has an answer{judged}: try another --extract, or more --max-tokens")
    else:
        click.echo(f"answer: {sanitize_line(verdict.answer)}")
    cut = sum(path.cut for path in verdict.paths)
    ends = f"{whole - cut} whole" + (f", {cut} cut at --max-tokens" if cut else "")
    click.echo(f"{many(len(verdict.paths), 'path')}, {ends} · {verdict.tokens} tokens", err=True)
