"""`likely explain`: what a model thinks of every token of a given text."""

import math
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from likely.app.cli.generate.own_answer import own_answer
from likely.app.cli.options.opening import (
    RuledCommand,
    activation_option,
    adapter_option,
    model_option,
    open_session,
    read_text,
)
from likely.app.words import heat
from likely.app.words.tables import Columns
from likely.app.words.units import bits, json_line, predicted
from likely.engine.base.errors import ParameterError
from likely.engine.base.files.whole_file import read_whole
from likely.engine.train.posterior.uncertainty import FEWEST, MOST

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from likely.engine.decode.session import Session
    from likely.engine.measure.evaluate.scoring.explain import Attention, Continuation, Explanation
    from likely.engine.sampling.trace.step import TokenStep
    from likely.engine.train.posterior.explained import ExplainedUncertainty
    from likely.engine.train.posterior.uncertainty import Uncertainty

SHOWN = 5  # candidates a token
BEFORE = 4  # tokens of the past that a factor spells


@click.command("explain", cls=RuledCommand)
@click.argument("text", required=False)
@click.option("--file", "-f", type=click.Path(path_type=Path), help="Read the text from a file.")
@click.option("--chat", is_flag=True, help="TEXT is a question, by the chat template: explain what is answered.")
@model_option
@adapter_option
@activation_option
@click.option("--top", default=SHOWN, show_default=True, type=click.IntRange(0, 256), help="Candidates a position.")
@click.option("--candidate", "-c", multiple=True, metavar="TEXT", help="Also: how likely is this right after it?")
@click.option(
    "--samples",
    type=click.IntRange(FEWEST, MOST),
    metavar="M",
    help="Models drawn from the adapter's posterior. Default: an ensemble's members, else 8.",
)
@click.option("--attention", "attended", is_flag=True, help="Also: what each head attends to.")
@click.option("--formula", is_flag=True, help="Write the text's probability as a product, with its numbers.")
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="One object: tokens, perplexity, bits_per_byte, ..., and units.",
)
def command(
    text: str | None,
    file: Path | None,
    chat: bool,
    model: str,
    adapters: tuple[str, ...],
    activation_bits: int | None,
    top: int,
    candidate: tuple[str, ...],
    samples: int | None,
    attended: bool,
    formula: bool,
    as_json: bool,
) -> None:
    """Show surprisal, rank, entropy and the best candidates at every token of a given TEXT (or standard input).

    \b
    likely explain "The capital of France is Paris."
    likely explain "The capital of France is" -c " Paris" -c " London"
    likely explain --json < essay.txt | jq .perplexity
    likely explain "2 + 2 = 5" -A my-adapter     with "±" where `likely posterior` has fitted one
    likely explain --chat "How heavy is it?" -A my-adapter -c "412 grams"      what it answers, how sure it is

    """
    from likely.engine.measure.evaluate.scoring.explain import (
        answers,
        attention,
        continuations,
        explain,
        explain_answer,
    )

    content = read_given(file, text, "explain")
    session = open_session(model, adapters=adapters, activation_bits=activation_bits)
    prompt: list[int] = []
    if chat:
        prompt, answer = own_answer(session, content)
        explanation, named = explain_answer(session, prompt, answer), answers(session, prompt, candidate)
    else:
        explanation, named = explain(session, content), continuations(session, content, candidate)
    doubt = None if formula and not as_json else uncertainties(session, explanation, named, top, samples, prompt)
    said = session.tokenizer.decode([step.token for step in explanation.steps if not step.special]) if chat else ""
    if as_json:
        facts = _object(session, explanation, named, top, doubt)
        if chat:
            facts["answer"] = said
        if formula:
            facts["formula"] = list(factorisation(explanation.steps))
        if attended:
            facts["attention"] = _attention(attention(session, content))
        click.echo(json_line(facts))
    elif formula:
        for line in factorisation(explanation.steps):
            click.echo(line)
    else:
        if chat:
            click.echo(f"answers: {heat.visible(said)}")
        _show(session, explanation, named, top, doubt, "question" if chat else "text")
        if chat and doubt is not None:
            for line in _agreement(session, explanation, doubt, said):
                click.echo(line)


def _agreement(
    session: "Session", explanation: "Explanation", doubt: "ExplainedUncertainty", said: str
) -> "Iterator[str]":
    """How many of the samples of a posterior would answer so, and how the others would go on."""
    yield (
        f"{heat.visible(said.strip())}: {doubt.agree:.0%} of the samples agree "
        f"({sum(parting is None for parting in doubt.partings)} of {doubt.samples})"
    )
    for (place, token), count in Counter(filter(None, doubt.partings)).most_common():
        before = session.tokenizer.decode([step.token for step in explanation.steps[:place]])
        after = session.tokenizer.piece(token).decode(errors="replace")
        where = f"after {heat.visible(repr(before))}" if before else "first"
        yield f"  {count} would say {heat.visible(repr(after))} {where}"


def read_given(file: Path | None, text: str | None, verb: str) -> str:
    """TEXT, the file or standard input; ParameterError where there is nothing in it."""
    content = read_text(text, "TEXT") if file is None else _read_file(file, text)
    if not content:
        raise ParameterError(f"there is nothing to {verb}: the text is empty")
    return content


def _read_file(file: Path, text: str | None) -> str:
    if text is not None:
        raise click.UsageError("give either TEXT or --file, not both")
    return read_whole(file)


def factorisation(steps: "Sequence[TokenStep]") -> "Iterator[str]":
    """The chain rule with the text's own numbers, a line a factor: p(x_1..n) = prod p(x_i | x_<i).

    Where nothing stands before the first token, it is given and has no factor.
    """
    words = [heat.visible(repr(step.piece.decode(errors="replace"))[1:-1]).replace(" ", "·") or "∅" for step in steps]
    first = next((i for i, step in enumerate(steps) if step.logprob is not None), len(steps))
    condition = " | x1" if first else ""
    if first == len(steps):
        yield f"{words[0] if words else 'x1'} is given: a text of one token has no factor"
        return
    yield f"p(x{first + 1}..x{len(steps)}{condition}) = prod over i of p(xi | x<i)"
    total, count = 0.0, 0
    for i, step in enumerate(steps):
        if step.logprob is None:
            continue
        before = f" | {'… ' if i > BEFORE else ''}{' '.join(words[max(0, i - BEFORE) : i])}" if i else ""
        total, count = total + step.logprob, count + 1
        sign = "=" if count == 1 else "x"
        yield f"  {sign} p({words[i]}{before}) = {math.exp(step.logprob):.4g}"
    yield f"  = 2^{bits(total):.3f} = 10^{total / math.log(10):.2f}"
    yield f"{predicted(count, len(steps))}: {bits(-total):.3f} bits"
    yield f"perplexity = p^(-1/{count}) = 2^({bits(-total):.3f} / {count}) = {math.exp(-total / count):.3f}"


def candidates(session: "Session", step: "TokenStep", top: int) -> list[dict[str, Any]]:
    """The most likely tokens at a step: id, text, logprob in nats."""
    if step.snapshot is None:
        return []
    logprobs = step.snapshot.logits[:top] - step.snapshot.lse
    return [
        {"id": int(i), "text": session.tokenizer.piece(int(i)).decode(errors="replace"), "logprob": float(lp)}
        for i, lp in zip(step.snapshot.ids[:top], logprobs, strict=False)
    ]


def uncertainties(
    session: "Session",
    explanation: "Explanation",
    named: "list[Continuation]",
    top: int,
    samples: int | None,
    prompt: "Sequence[int]" = (),
) -> "ExplainedUncertainty | None":
    """Where one adapter with a posterior is on the model; ParameterError for samples of one that is not there."""
    if session.average is None:
        if samples is not None:
            raise ParameterError(
                "no adapter on the model has a posterior to take --samples of: likely posterior fits one"
            )
        return None
    from likely.engine.train.posterior import explained
    from likely.engine.train.posterior.averaged import AveragedModel

    try:
        averaged = session.average(samples or 0)
    except ParameterError as error:
        if samples is not None:
            raise
        click.echo(f"without ±: {error}", err=True)  # two adapters have one each: the text is explained all the same
        return None
    # a mixture over samples of a posterior is the only kind that a session has
    assert isinstance(averaged, AveragedModel)
    return explained.uncertainties(averaged, explanation.steps, [c.steps for c in named], top, prompt)


def _token(session: "Session", step: "TokenStep", top: int, doubt: "Uncertainty | None" = None) -> dict[str, Any]:
    from likely.engine.sampling.trace.fields import step_object

    token = step_object(step, drawn=False) | {"candidates": candidates(session, step, top)}
    if doubt is not None:
        token |= {"entropy_total": doubt.total, "aleatoric": doubt.aleatoric, "epistemic": doubt.epistemic}
        for candidate, mean, spread in zip(
            token["candidates"], doubt.mean.tolist(), doubt.spread.tolist(), strict=True
        ):
            candidate |= {"mean": mean, "spread": spread}
    return token


def _object(
    session: "Session",
    explanation: "Explanation",
    named: "list[Continuation]",
    top: int,
    doubt: "ExplainedUncertainty | None",
) -> dict[str, Any]:
    doubts = [None] * len(explanation.steps) if doubt is None else doubt.tokens
    return {
        "model": session.info.name,
        "tokens": [_token(session, step, top, u) for step, u in zip(explanation.steps, doubts, strict=True)],
        "predicted": len(explanation.scored),
        "total_logprob": explanation.total_logprob,
        "perplexity": explanation.perplexity,
        "bits_per_byte": explanation.bits_per_byte,
        "continuations": [
            {"text": c.text, "logprob": c.logprob, "tokens": [_token(session, step, top) for step in c.steps]}
            for c in named
        ],
        **({} if doubt is None else {"posterior": _posterior(doubt, named)}),
    }


def _posterior(doubt: "ExplainedUncertainty", named: "list[Continuation]") -> dict[str, Any]:
    """The kind, how many samples, seconds, and of continuations the log-probabilities by each sample, in nats."""
    posterior: dict[str, Any] = {"kind": doubt.kind, "samples": doubt.samples, "elapsed_s": doubt.elapsed_s}
    posterior["continuations"] = [
        {"text": c.text, "logprobs": s.tolist()} for c, s in zip(named, doubt.named, strict=True)
    ]
    if doubt.partings:
        posterior["agree"] = doubt.agree
        posterior["partings"] = [None if at is None else {"position": at[0], "token": at[1]} for at in doubt.partings]
    if (among := doubt.choices) is not None:
        posterior["choices"] = {
            "trained": among.trained.tolist(),
            "probit": among.by_probit.tolist(),
            "sampled": among.by_sampling.tolist(),
            "covariance": among.covariance.tolist(),
        }
    return posterior


def _attention(attention: "Attention") -> list[dict[str, Any]]:
    """An object a layer and head: entropy in nats for each token, and the positions it attends to most."""
    return [
        {
            "layer": layer,
            "head": head,
            "entropy": attention.entropy[layer, head].tolist(),
            "top": [
                [{"position": int(p), "weight": float(w)} for p, w in zip(*row, strict=True) if p >= 0]
                for row in zip(attention.positions[layer, head], attention.weights[layer, head], strict=True)
            ],
        }
        for layer in range(attention.entropy.shape[0])
        for head in range(attention.entropy.shape[1])
    ]


def _parts(aleatoric: float, epistemic: float) -> tuple[float, float, float]:
    """The mixture's entropy and its two parts in bits to two places, so that they add up as they are read."""
    parts = round(bits(aleatoric), 2), round(bits(epistemic), 2)
    return sum(parts), *parts


def _doubts(
    doubt: "ExplainedUncertainty | None", steps: "Sequence[TokenStep]", named: "list[Continuation]"
) -> "Iterator[str]":
    """Lines under the table: choices against each other, and of what "±" is and what it cost."""
    if doubt is None:
        return
    if (among := doubt.choices) is not None:
        columns = Columns("{among them:<18} {trained:>8} {probit:>8} {sampled:>8}")
        yield columns.heading
        for c, *shares in zip(named, among.trained, among.by_probit, among.by_sampling, strict=True):
            yield columns.line(heat.visible(repr(c.text)), *(f"{share:.1%}" for share in shares))
    known = [(step.entropy, u) for step, u in zip(steps, doubt.tokens, strict=True) if step.entropy is not None and u]
    if known:
        own, aleatoric, epistemic = (
            sum(part) / len(known) for part in zip(*((own, u.aleatoric, u.epistemic) for own, u in known), strict=True)
        )
        whole, *parts = _parts(aleatoric, epistemic)
        yield (
            f"mean entropy of {len(known)} tokens: {bits(own):.2f} bits by the trained weights; of the mixture "
            f"{whole:.2f} bits = {parts[0]:.2f} aleatoric + {parts[1]:.2f} epistemic"
        )
        yield f"mixture: the mean of {doubt.samples} samples' distributions; all else is by the trained weights"
    cost = f"{doubt.samples} rows of one batch, {doubt.elapsed_s:.1f} s"
    yield f"± is the standard deviation over {doubt.samples} samples of the adapter's posterior ({doubt.kind}): {cost}"


def _show(
    session: "Session",
    explanation: "Explanation",
    named: "list[Continuation]",
    top: int,
    doubt: "ExplainedUncertainty | None",
    given: str,
) -> None:
    mode = heat.colour_mode(sys.stdout)
    columns = Columns("{token:<18} {bits:>6} {rank:>6} {entropy:>7}")
    parts = Columns(" {mixture:>7} {= aleatoric:>11} {+ epistemic:>11}")
    click.echo(f"{columns.heading}{'' if doubt is None else parts.heading}  candidates")
    width = heat.columns(mode)
    for at, step in enumerate(explanation.steps):
        name = heat.visible(repr(step.piece.decode(errors="replace"))[1:-1]) or "''"
        if step.logprob is None or step.entropy is None:
            click.echo(f"{columns.line(name, '-', '-', '-')}  nothing precedes it")
            continue
        surprisal = bits(-step.logprob)
        u = None if doubt is None else doubt.tokens[at]
        best = "  ".join(
            f"{heat.visible(repr(c['text'])[1:-1])} {math.exp(c['logprob']):.1%}"
            + ("" if u is None else f"±{100 * u.spread[i]:.1f}")
            for i, c in enumerate(candidates(session, step, top))
        )
        split = "" if u is None else parts.line(*(f"{part:.2f}" for part in _parts(u.aleatoric, u.epistemic)))
        row = columns.line(name, f"{surprisal:.2f}", str(step.rank), f"{bits(step.entropy):.2f}")
        row = f"{row}{split}  {best}"[: max(width - 1, 38, 20 + len(name))]
        click.echo(heat.paint(name, heat.level(surprisal), mode) + row[len(name) :])
    for i, c in enumerate(named):
        spread = "" if doubt is None else f" ± {doubt.spread_of(i):.4%}"
        cost = f"{math.exp(c.logprob):.4%}{spread}  ({bits(-c.logprob):.2f} bits)"
        click.echo(f"p({heat.visible(repr(c.text))} | {given}) = {cost}")
    for line in _doubts(doubt, explanation.steps, named):
        click.echo(line)
    if explanation.perplexity is None or explanation.bits_per_byte is None:
        return
    click.echo(
        f"{predicted(len(explanation.scored), len(explanation.steps))} · {bits(-explanation.total_logprob):.3f} bits · "
        f"perplexity {explanation.perplexity:.3f} · {explanation.bits_per_byte:.3f} bits a byte"
    )
