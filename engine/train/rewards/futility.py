"""Promise of problems: whether the answers to them, before anything is learned, differ enough to learn from."""

from collections.abc import Sequence

from likely.engine.train.rewards.figures import Rollout

MIXED = 0.05  # of the problems, fewer of which teach: the others' answers are all worth the same
SOLVED = 0.9  # of the answers, more of which are right already
CUT = 0.2  # of the answers, more of which are worth a word


def unfit(groups: Sequence[Sequence[Rollout]]) -> str:
    """The line that says why answers to problems promise nothing, and what would help; "" where they do.

    Of each group only the answers with a verdict count.
    """
    judged = [[float(one.reward) for one in group if one.reward is not None] for group in groups]
    every = [one for group in groups for one in group]
    mixed = sum(len(set(rewards)) > 1 for rewards in judged)
    right, cut = (sum(each) / max(1, len(every)) for each in ([o.right for o in every], [o.cut for o in every]))
    if right <= SOLVED and mixed >= MIXED * len(groups):
        return ""
    found = (
        f"of {len(groups)} problems tried first {mixed} had answers of different worth, and {right:.0%} of the answers "
        "were right"
    )
    if right > SOLVED:
        return f"{found}: there is next to nothing to learn; harder problems would help"
    longer = f", a larger --tokens ({cut:.0%} were cut by it)" if cut > CUT else ""
    return (
        f"{found}: from the others nothing is learned; easier problems would help, a model that was tuned on worked "
        f"answers, more --answers{longer}"
    )
