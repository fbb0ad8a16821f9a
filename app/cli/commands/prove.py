"""`likely prove`: samplers and searches against laws whose every probability is listed."""

import json
from dataclasses import asdict

import click

from likely.app.cli.options.opening import Progress, on_terminal, open_session
from likely.engine.base.errors import LikelyError

TEXT = "The capital of France is"


@click.command()
@click.argument("name", default="")
@click.option(
    "--draws", default=2000, show_default=True, type=click.IntRange(200, 1_000_000), help="Draws for each law."
)
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 1_000_000), help="Seed of the draws.")
@click.option(
    "--model", "-M", default="", metavar="MODEL", help="On this model: all laws on tiny-bigram, else mode, martingale."
)
@click.option("--text", default=TEXT, show_default=True, help="The text that --model continues.")
@click.option("--with-fault", "fault", default="", metavar="FAULT", help="Plant a fault in its law, which has to fail.")
@click.option("--screen", is_flag=True, help="Draw for it on the full screen, exact upward and drawn downward.")
@click.option("--json", "as_json", is_flag=True, help="One object a law on stdout.")
@click.pass_context
def command(
    context: click.Context, name: str, draws: int, seed: int, model: str, text: str, fault: str, screen: bool,
    as_json: bool,
) -> None:  # fmt: skip
    """Prove that what is drawn here has the law that it should, on a model whose 155 texts are all listed: the law
    NAME, all of a page, or all. Chi-square against exact probabilities; a law holds where p is 1e-4 or more.

    \b
    enumeration   sample, top-p, penalty, branches, stochastic-beams, power,
                  speculative, guessing, low-temperature (which has to fail)
    constraint    token-by-token, resampling, distinct, distinct-resampling
    mode          score <= the likeliest text <= bound, at every pass
    orders        orders, bound: masked diffusion in any order
    martingale    surprisal less entropy, on the model's own texts
    intervals     how many of evaluations' intervals miss
    precision     packed weights against float64

    \b
    likely prove mode -M smollm2 --text "Once upon"    what goes on from a text

    \b
    faults        top-p-renormalised, stale-penalty, shared-key,
                  biased-acceptance, free-gumbels, unweighted-bound

    Exit code 0 where every law does what it should, 1 where one does not: so it is with a fault that is seen.
    """
    from likely.app.words.proof_text import fit_words, p_words, sign, verdict_words
    from likely.engine.measure.proofs.table import FAULTS, chosen, of_model, proving

    if not model and context.get_parameter_source("text") is not click.core.ParameterSource.DEFAULT:
        raise click.UsageError("--text is for --model: the small model begins with nothing")
    if screen:
        if fault or as_json or model or not on_terminal():
            taken = fault or as_json or model
            wanted = "neither --with-fault, --json nor --model" if taken else "a terminal"
            raise click.UsageError(f"--screen goes with {wanted}")
        chosen(name)
        from likely.app.tui import prove

        raise SystemExit(prove(name))
    wrong: list[str] = []
    made = open_session(model) if model else None
    for proof in chosen(name, fault, None if made is None else of_model(made, text)):
        with Progress() as progress:
            for evidence in proving(proof, draws, seed=seed, made=made):
                progress.show(f"{proof.claim.name}, {evidence.draws:,} draws", evidence.draws, draws)
        result = evidence.result
        if as_json:
            click.echo(json.dumps(asdict(result)))
        else:
            drawn = f"{result.draws:,} draws" if result.draws else "nothing drawn"
            law = f"{sign(evidence)} {result.law:<19} {drawn:>13}"
            click.echo(f"{law}   {fit_words(evidence):<34} {verdict_words(evidence)}")
        if not evidence.right:
            does = "is not seen to fail, give more --draws" if evidence.claim.fails else "does not hold"
            wrong.append(f"{result.law} {does} (p {p_words(result.p)})")
    if fault and not wrong:
        click.echo(f"the fault {fault} is not seen in {draws:,} draws: give more --draws", err=True)
    if wrong:
        planted = f": {FAULTS[fault].about}" if fault else ""
        raise LikelyError(f"{'; '.join(wrong)}{planted}")
