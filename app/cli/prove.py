"""`likely prove`: samplers and searches against laws whose every probability is listed."""

import json
from dataclasses import asdict

import click

from likely.app.cli.opening import Progress, on_terminal
from likely.engine.errors import LikelyError


@click.command()
@click.argument("name", default="")
@click.option("--draws", default=2000, show_default=True, type=click.IntRange(200, 1_000_000), help="Of each law.")
@click.option("--seed", default=0, show_default=True, type=click.IntRange(0, 1_000_000), help="Of the draws.")
@click.option("--with-fault", "fault", default="", metavar="FAULT", help="Plant a fault in its law, which has to fail.")
@click.option("--screen", is_flag=True, help="Draw for it on the full screen, exact upward and drawn downward.")
@click.option("--json", "as_json", is_flag=True, help="One object a law on stdout.")
def command(name: str, draws: int, seed: int, fault: str, screen: bool, as_json: bool) -> None:
    """Prove that what is drawn here has the law that it should, on a model whose 155 texts are all listed: the law
    NAME, all of a page, or all. Chi-square against exact probabilities; a law holds where p is 1e-4 or more.

    \b
    enumeration   sample, top-p, penalty, branches, stochastic-beams, power,
                  speculative, guessing, low-temperature (which has to fail)
    constraint    token-by-token, resampling
    mode          score <= the likeliest text <= bound, at every pass
    orders        orders, bound: masked diffusion in any order
    martingale    surprisal less entropy, on the model's own texts
    intervals     how many of evaluations' intervals miss
    precision     packed weights against float64

    \b
    faults        top-p-renormalised, stale-penalty, shared-key,
                  biased-acceptance, free-gumbels, unweighted-bound

    Exit code 0 where every law does what it should, 1 where one does not: so it is with a fault that is seen.
    """
    from likely.app.proof_words import fit_words, p_words, sign, verdict_words
    from likely.engine.proofs.table import FAULTS, chosen, proving

    if screen:
        if fault or as_json or not on_terminal():
            wanted = "a terminal" if not (fault or as_json) else "neither --with-fault nor --json"
            raise click.UsageError(f"--screen goes with {wanted}")
        chosen(name)
        from likely.app.tui import prove

        raise SystemExit(prove(name))
    wrong: list[str] = []
    for proof in chosen(name, fault):
        with Progress() as progress:
            for evidence in proving(proof, draws, seed=seed):
                progress.show(f"{proof.claim.name}, {evidence.draws:,} draws", evidence.draws, draws)
        result = evidence.result
        if as_json:
            click.echo(json.dumps(asdict(result)))
        else:
            drawn = f"{result.draws:,} draws" if result.draws else "nothing drawn"
            law = f"{sign(evidence)} {result.law:<17} {drawn:>13}"
            click.echo(f"{law}   {fit_words(evidence):<34} {verdict_words(evidence)}")
        if not evidence.right:
            does = "is not seen to fail, give more --draws" if evidence.claim.fails else "does not hold"
            wrong.append(f"{result.law} {does} (p {p_words(result.p)})")
    if fault and not wrong:
        click.echo(f"the fault {fault} is not seen in {draws:,} draws: give more --draws", err=True)
    if wrong:
        planted = f": {FAULTS[fault].about}" if fault else ""
        raise LikelyError(f"{'; '.join(wrong)}{planted}")
