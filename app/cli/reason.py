"""`likely reason`: several ways of thought to one question, and what is chosen of them."""

import json
import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import zip_longest
from typing import TYPE_CHECKING, Any

import click

from app.cli.opening import adapter_option, model_option, open_session, read_text
from app.cli.sampling import Limits, read_recipe, sampling_options
from engine.decode.control import RunControl
from engine.decode.events import Done, Emitted, Event, Rated
from engine.decode.power import Power
from engine.errors import ParameterError
from engine.evaluate.extraction import Extraction
from engine.evaluate.program import Verifier, VerifierError
from engine.prompt import Prompt
from engine.reason.paths import Path, PathCollector, VoteOutcome, by_score, by_vote
from engine.reason.scorers import SCORERS, Scorer, scorer
from engine.reason.thought import THOUGHTS, Thought, thought
from engine.reason.vote import interval

if TYPE_CHECKING:
    from engine.session import Session

BAR = 24  # cells of a full one


@click.command()
@click.argument("question", required=False)
@model_option
@adapter_option
@click.option(
    "--method",
    type=click.Choice(["vote", "best", "power"]),
    default="vote",
    show_default=True,
    help="Count equal answers, take the best by a score, or draw from p to a power.",
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
@click.option("--scorer", "by", metavar="NAME", help=f"What weighs a vote, or chooses the best: {', '.join(SCORERS)}.")
@click.option("--verifier", metavar="COMMAND", help="A program that reads an answer as JSON and prints a number.")
@click.option("--timeout", type=float, default=10.0, show_default=True, help="Seconds that a verifier may take.")
@click.option(
    "--confidence",
    type=click.FloatRange(0, 1, min_open=True),
    help="Stop once the vote is decided with this probability, such as 0.95.",
)
@click.option("--alpha", type=float, default=4.0, show_default=True, help="The power of --method power.")
@click.option("--raw", is_flag=True, help="Continue the question as it is, without template and chat template.")
@click.option("--json", "as_json", is_flag=True, help="One object at the end.")
@sampling_options
def command(
    question: str | None, model: str, adapters: tuple[str, ...], method: str, paths: int | None, template: str,
    extract: str | None, by: str | None, verifier: str | None, timeout: float, confidence: float | None, alpha: float,
    raw: bool, as_json: bool, **values: object,
) -> None:  # fmt: skip
    """Think about QUESTION several times, and choose an answer.

    \b
    likely reason "What is 17 * 23?" --method vote -n 16
    likely reason "..." --method best --scorer certainty
    likely reason "..." --method best --verifier "python check.py"
    likely reason "..." --method power --alpha 4
    """
    recipe, limits = read_recipe(values, searches=method == "power")
    n = paths if paths is not None else (1 if method == "power" else 16)
    if not 1 <= n <= 256:
        raise ParameterError(f"the number of paths must be in [1, 256], got {n}")
    if verifier is not None and (by is not None or method != "best"):
        raise click.UsageError("--verifier chooses the best: use it with --method best, in the place of --scorer")
    if method == "power" and confidence is not None:
        raise click.UsageError("--confidence stops paths that are drawn side by side: use it with --method vote")
    asks = thought(template)
    extraction = Extraction(extract or asks.extract)
    weigh = scorer(by) if by is not None else None
    judge = Verifier.of(verifier, timeout) if verifier is not None else None
    text = read_text(question, "QUESTION")
    if not text.strip():
        raise ParameterError("there is nothing to think about: the question is empty")
    session = open_session(model, adapters=adapters)
    from app.plain import interruptible

    ids = _ids(session, asks, text, raw=raw)
    control = RunControl(recipe)
    sampling = PathCollector(extraction, n, control, confidence if method == "vote" else None)
    events = _events(session, ids, control, limits, n, Power(alpha) if method == "power" else None)
    with interruptible(control):
        for path in sampling.watch(events):
            if not as_json:
                _show_path(path, len(sampling.paths))
    if method == "best":
        verdict = by_score(sampling.paths, _judge(judge, weigh or scorer("mean"), text))
    else:
        verdict = by_vote(sampling.paths, weigh, seed=limits.seed)
    if as_json:
        click.echo(json.dumps(verdict_object(verdict), ensure_ascii=False))
    else:
        _show_verdict(verdict)
    if control.cancelled and not any(path.whole for path in sampling.paths):
        sys.exit(130)


def _events(
    session: "Session", ids: list[int], control: RunControl, limits: Limits, n: int, chain: Power | None
) -> Iterator[Event]:
    """Those of n paths side by side, or of n chains, one after the other."""
    asked: dict[str, Any] = {"max_tokens": limits.max_tokens, "stop": limits.stop}
    if chain is None:
        yield from session.generate(ids, control, n=n, seed=limits.seed, **asked)
        return
    for i in range(n):
        for event in session.generate(ids, control, seed=limits.seed + i, strategy=chain, **asked):
            yield replace(event, branch=i) if isinstance(event, Emitted | Done | Rated) else event


def _ids(session: "Session", asks: Thought, question: str, *, raw: bool) -> list[int]:
    if raw:
        return Prompt(parts=(question,)).ids(session.tokenizer)
    return asks.ask(question, chat=session.tokenizer.chat_template is not None).ids(session.tokenizer)


def _judge(verifier: Verifier | None, by: Scorer, question: str) -> Callable[[Path], float | None]:
    """The verifier's verdict, where it gives one: what is wrong with it is said on stderr, once for each reason."""
    said: set[str] = set()

    def judge(path: Path) -> float | None:
        if verifier is None:
            return by.of(path.steps)
        try:
            return verifier(question, path.text, answer=path.answer)
        except VerifierError as error:
            if str(error) not in said:
                click.echo(f"likely: path {path.branch + 1}: {error}", err=True)
            said.add(str(error))
            return None

    return judge


def verdict_object(verdict: VoteOutcome) -> dict[str, Any]:
    """The object that `--json` prints."""
    paths = [
        {"text": path.text, "answer": path.answer, "logprob": path.logprob, "tokens": path.tokens}
        | ({"score": score} if verdict.scores else {})
        for path, score in zip_longest(verdict.paths, verdict.scores)
    ]
    return {"answer": verdict.answer, "votes": verdict.votes, "paths": paths, "tokens": verdict.tokens}


def _show_path(path: Path, place: int) -> None:
    said = path.answer if path.answer is not None else "stopped" if not path.whole else "no answer"
    bits = -path.logprob / math.log(2)
    click.echo(click.style(f"[{place}] {path.tokens} tokens · {bits:.1f} bits · {said}", bold=True))
    click.echo(path.text.strip())


def _show_verdict(verdict: VoteOutcome) -> None:
    """The votes as bars with 95 % intervals of their shares, the answer, and what was spent."""
    whole = sum(path.whole for path in verdict.paths)
    total = sum(verdict.votes.values())
    width = min(max((len(answer) for answer in verdict.votes), default=0), 40)
    click.echo()
    for answer, weight in verdict.votes.items():
        share = weight / total if total else 0.0
        low, high = interval(share * whole, whole)
        bar = "█" * round(BAR * share)
        click.echo(f"{answer[:40]:{width}}  {bar:{BAR}} {share:4.0%}  [{low:.0%}, {high:.0%}]")
    if verdict.unanswered:
        click.echo(f"{verdict.unanswered} of {whole} paths gave no answer that the rule finds")
    if verdict.answer is None:
        judged = " that was judged" if verdict.scores and verdict.votes else ""
        click.echo(f"no path has an answer{judged}: try another --extract, or more --max-tokens")
    else:
        click.echo(f"answer: {verdict.answer}")
    click.echo(f"{len(verdict.paths)} paths, {whole} whole · {verdict.tokens} tokens", err=True)
