"""Learning from rewards in words: a step's answers; base and policy on held-out problems. KL and entropy in bits."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

from likely.app.words.units import bits, finite
from likely.engine.train.rewards.figures import ExpertIteration, HeldOut, PassedAt, Rewarded
from likely.engine.train.rewards.reward_history import SPAN, RewardWarning, recent


def rewarded(steps: Sequence[Rewarded]) -> str:
    """The answers of the last of the steps, in a line, and the mean reward of the last ten."""
    event, found = steps[-1], recent(steps)
    low, high = found.interval
    known = f" [{low:.2f}, {high:.2f}]" if 0 < found.error < math.inf else ""
    mean = f", of the last {min(len(steps), SPAN)} steps {found.mean:.2f}" if len(steps) > 1 else ""
    wrong, mixed, right = event.groups
    groups = f"{wrong} all wrong, {mixed} mixed, {right} all right"
    missing = f" · {event.missing} without a verdict" if event.missing else ""
    return (
        f"reward {event.reward:.2f}{mean}{known} · {groups} · "
        f"KL {round(bits(event.kl), 2) + 0.0:.2f} bits an answer · entropy {bits(event.entropy):.2f} bits a token · "
        f"{lengths(event)} · {event.cut:.0%} cut{missing}"
    )


def lengths(event: Rewarded) -> str:
    """Mean lengths of right and wrong answers."""
    known = (("right", event.length_right), ("wrong", event.length_wrong))
    return " and ".join(f"{name} {length:.0f}" for name, length in known if length is not None) + " tokens"


def times(event: Rewarded) -> str:
    """The parts of the time of a step."""
    return f"draw {event.drawn_s:.1f} s, verify {event.verified_s:.1f} s, update {event.updated_s:.1f} s"


def held_out(found: HeldOut) -> str:
    """Held-out problems during a training, in a line."""
    first = found.passed[0]
    return f"held out pass@1 {first.policy.mean:.3f}, base {first.base.mean:.3f} ({_rise(first)})"


def warning(event: RewardWarning) -> str:
    """A figure that went wrong, and what may help."""
    before, now = event.before, event.now
    match event.name:
        case "held_out":
            return (
                f"held-out pass@1 fell from {before:.2f} to {now:.2f} while the reward rose: it learns the problems by "
                "heart, or what the verifier overlooks; best/ holds the best, --kl 0.01 or a lower --rate helps"
            )
        case "verdicts":
            return (
                f"the verdict was {now:g} on all that was tried, right answers and an empty one among them: where all "
                "are judged alike nothing is learned; does the verifier read what was said?"
            )
        case "entropy":
            return (
                f"entropy fell from {bits(before):.2f} to {bits(now):.3f} bits a token, under a tenth: its answers are "
                "alike by now, and what it does not try it cannot learn; a lower --rate or --kl 0.01 keeps it wider"
            )
        case _:
            return (
                f"wrong answers grew from {before:.0f} to {now:.0f} tokens, more than right ones: --share each makes "
                "long ones cheap, a lower --tokens ends them sooner"
            )


def _rise(one: PassedAt) -> str:
    low, high = one.rise.estimate.interval
    known = f" [{low:+.3f}, {high:+.3f}]" if finite(low) is not None and finite(high) is not None else ""
    return f"{one.rise.estimate.mean:+.3f}{known}"


def lines(found: HeldOut) -> Iterator[str]:
    """Base and policy on held-out problems, and where more answers make up for it."""
    for one in found.passed:
        yield f"pass@{one.k:<4} base {one.base.mean:.3f}, now {one.policy.mean:.3f} ({_rise(one)})"
    yield f"of {len(found.before)} held-out problems, {found.answers} answers each{crossing(found)}"


def expert_lines(found: ExpertIteration) -> Iterator[str]:
    """Expert iteration beside base and policy."""
    yield (
        f"expert iteration, {found.rounds} rounds: {found.drawn:,} answers drawn, {found.kept:,} different right ones "
        f"learned, {found.tokens:,} tokens"
    )
    for one, beside in zip(found.policy.passed, found.beside_base.passed, strict=True):
        yield f"pass@{one.k:<4} {beside.policy.mean:.3f} ({_rise(beside)} of the base); rewards {_rise(one)} of it"


def crossing(found: HeldOut) -> str:
    """From where on the base is ahead, where it is."""
    return "" if found.crossing is None else f"; from {found.crossing} answers on the base is ahead: it got sharper"


def as_json(found: HeldOut, expert: ExpertIteration | None = None) -> dict[str, Any]:
    """pass@k of base and policy, and of expert iteration beside them, as the last object of a training has it."""
    beside = {} if expert is None else {
        "expert": {
            "rounds": expert.rounds, "drawn": expert.drawn, "kept": expert.kept, "tokens": expert.tokens,
            **{f"pass@{one.k}": one.policy.mean for one in expert.beside_base.passed},
            "rise": _rises(expert.beside_base), "rise_of_policy": _rises(expert.policy),
        }
    }  # fmt: skip
    return {
        "problems": len(found.before), "answers": found.answers, "crossing": found.crossing,
        **{
            name: {f"pass@{one.k}": getattr(one, name).mean for one in found.passed} for name in ("base", "policy")
        },
        "rise": _rises(found),
        **beside,
    }  # fmt: skip


def _rises(found: HeldOut) -> dict[str, list[float | None]]:
    """Paired differences with their 95 % intervals."""
    return {f"pass@{one.k}": [one.rise.estimate.mean, *map(finite, one.rise.estimate.interval)] for one in found.passed}
