"""Array functions of the transforms whose spelling differs between mlx and numpy, and the hash that is our randomness.

Every transform takes the array namespace `xp` (`mlx.core` in the engine, `numpy` on a CPU and in replay) and is written
once. Nothing here imports mlx; nothing changes an argument; `x` is always one row [V].
"""

import hashlib
import struct

import numpy as np

from likely.engine.base.arrays import Array, Namespace
from likely.metal.packed import statistics

Key = tuple[int, int]  # (seed, position): all the randomness there is at one token

# A nucleus is hardly ever larger than this; where it is, more is sorted.
HEAD = 1024


def uniform(key: Key, purpose: str) -> float:
    """A number in [0, 1) that depends on nothing but the key and what it is for.

    24 random bits, so that it is the same number in float32. A hash, not a generator: a resumed run, a branch and a
    replay draw what the first run drew, without a state to carry, on the host and whatever computed the logits.
    """
    seed, position = key
    message = struct.pack("<Qq", seed % 2**64, position) + purpose.encode()
    return (int.from_bytes(hashlib.blake2b(message, digest_size=4).digest(), "little") >> 8) / 2**24


def put(x: Array, ids: Array, values: Array, xp: Namespace) -> Array:
    """x with x[ids] = values; where an id comes twice its values must agree."""
    if xp is not np:
        return xp.put_along_axis(x, ids, values, axis=-1)
    x = x.copy()
    x[ids] = values
    return x


def add(x: Array, ids: Array, values: Array, xp: Namespace) -> Array:
    """x with values added at ids, once for each time that an id comes."""
    if xp is not np:
        return x.at[ids].add(values)
    x = x.copy()
    np.add.at(x, ids, values)
    return x


def largest(x: Array, count: int, xp: Namespace) -> Array:
    """bool [V]: the `count` largest that are possible, exactly so many; among equals the lower id goes first."""
    possible = x > -xp.inf
    if count >= x.shape[-1]:
        return possible
    if xp is not np:
        least = xp.partition(x, -count)[-count]
        above, equal = x > least, x == least
        return possible & (above | (equal & (xp.cumsum(equal) <= count - xp.sum(above))))
    available = np.count_nonzero(possible)
    if available <= count:
        return possible
    # a partition is slow where most are equal, as they are at -inf
    least = np.partition(x if 2 * available > len(x) else x[possible], -count)[-count]
    chosen = x >= least
    if spare := np.count_nonzero(chosen) - count:
        chosen[np.flatnonzero(x == least)[-spare:]] = False
    return chosen


def nucleus(score: Array, weight: Array, share: float, xp: Namespace) -> Array:
    """The lowest score in the smallest set of highest scores that holds `share` of the weight: a scalar.

    The library that scans logits halves what it can be; numpy sorts no more than it must; mlx, which must not wait for
    an answer, sorts all.
    """
    goal = share * xp.sum(weight)
    if xp is np and score.dtype == weight.dtype == np.float32:
        least = statistics.nucleus(score, weight, float(goal))
        if least is not None:
            return np.float32(least)
    if xp is np and 2 * np.count_nonzero(possible := weight != 0) < len(weight):
        score, weight = score[possible], weight[possible]
    size = score.shape[-1]
    head = min(HEAD, size) if xp is np else size
    while True:
        ids = xp.argpartition(score, -head)[-head:] if head < size else xp.arange(size)
        ids = ids[xp.argsort(-score[ids])]
        mass = np.cumsum(weight[ids], dtype=np.float64) if xp is np else xp.cumsum(weight[ids])
        if head == size or mass[-1] >= goal:
            # the first is in; each other one while what stands above it falls short of the goal
            return score[ids[xp.sum(mass[:-1] < goal)]]
        head = min(16 * head, size)
