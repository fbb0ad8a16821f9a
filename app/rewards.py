"""Learning from rewards in words: a step's answers; base and policy on held-out problems. KL and entropy in bits."""

from collections.abc import Iterator
from typing import Any

from likely.app.units import bits
from likely.engine.rewards.figures import HeldOut, Rewarded


def rewarded(event: Rewarded) -> str:
    """The answers of a step, in a line."""
    wrong, mixed, right = event.groups
    groups = f"{wrong} all wrong, {mixed} mixed, {right} all right"
    missing = f" · {event.missing} without a verdict" if event.missing else ""
    return (
        f"reward {event.reward:.2f} [{event.low:.2f}, {event.high:.2f}] · {groups} · "
        f"KL {bits(event.kl):.2f} bits an answer · entropy {bits(event.entropy):.2f} bits a token · "
        f"{event.cut:.0%} cut{missing}"
    )


def lines(found: HeldOut) -> Iterator[str]:
    """Base and policy on held-out problems, and where more answers make up for it."""
    for one in found.passed:
        low, high = one.rise.estimate.interval
        yield (
            f"pass@{one.k:<4} base {one.base.mean:.3f}, now {one.policy.mean:.3f} ({one.rise.estimate.mean:+.3f} "
            f"[{low:+.3f}, {high:+.3f}])"
        )
    crossing = "" if found.crossing is None else f"; from {found.crossing} answers on the base is ahead: it got sharper"
    yield f"of {found.problems} held-out problems, {found.answers} answers each{crossing}"


def as_json(found: HeldOut) -> dict[str, Any]:
    """pass@k of base and policy, as the last object of a training has it."""
    sides = {"base": "base", "policy": "policy"}
    return {
        "problems": found.problems, "answers": found.answers, "crossing": found.crossing,
        **{
            name: {f"pass@{one.k}": getattr(one, side).mean for one in found.passed} for name, side in sides.items()
        },
        "rise": {
            f"pass@{one.k}": [one.rise.estimate.mean, *one.rise.estimate.interval] for one in found.passed
        },
    }  # fmt: skip
