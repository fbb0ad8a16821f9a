"""Macs in a ring: what two, four and eight of them are predicted to give, from bytes and latencies. Measures nothing.

    python benchmarks/ring.py        the table of docs/distributed.md

A token reads the weights once, W bytes at B bytes a second. Shared by layers' widths (tensor), each of n machines reads
W / n, and each of L layers waits for two sums of H numbers of 16 bits: around a ring 2 (n - 1) messages of 2 H / n
bytes, one after another; in a mesh of cables, which RDMA has of four machines, one of 2 H to each of the others.
Shared by layers (pipeline), the machines read one after another, W in all, and n messages of 2 H bytes go between.
A message takes its latency and its bytes over the link's bandwidth. Arithmetic, the cache and idle time are left out:
these are bounds from above.
"""

from dataclasses import dataclass

MACHINES = (1, 2, 4, 8)


@dataclass(frozen=True)
class Model:
    name: str
    read: float  # bytes of weights that a token reads
    layers: int
    width: int


@dataclass(frozen=True)
class Link:
    name: str
    latency: float  # s a message
    bandwidth: float  # bytes/s
    mesh: int  # most machines that are each other's neighbours

    def sum(self, size: float, machines: int) -> float:
        """Seconds until each machine has the sum of all machines' `size` bytes."""
        if machines <= self.mesh:
            return (machines > 1) * (self.latency + (machines - 1) * size / self.bandwidth)
        return 2 * (machines - 1) * (self.latency + size / machines / self.bandwidth)


BITS = 4.5  # a weight of 4 bits with its share of a scale and a bias for each 64
MODELS = (
    Model("Llama 3.3 70B", 70.6e9 * BITS / 8, 80, 8192),
    Model("DeepSeek V3, 37 of 671B", 37e9 * BITS / 8, 61, 7168),
    Model("Kimi K2, 32 of 1,000B", 32e9 * BITS / 8, 61, 7168),
)
LINKS = (Link("jaccl, RDMA", 9e-6, 8.05e9, 4), Link("ring, TCP", 300e-6, 4e9, 1))  # both over Thunderbolt
BANDWIDTH = 819e9  # bytes/s of an M3 Ultra's memory


def tensor(model: Model, link: Link, machines: int, bandwidth: float = BANDWIDTH) -> float:
    """Seconds a token."""
    return model.read / machines / bandwidth + 2 * model.layers * link.sum(2 * model.width, machines)


def pipeline(model: Model, link: Link, machines: int, bandwidth: float = BANDWIDTH) -> float:
    """Seconds a token."""
    message = link.latency + 2 * model.width / link.bandwidth
    return model.read / bandwidth + (machines > 1) * machines * message


def table() -> str:
    """Tokens a second, as Markdown."""
    rows = [
        "| model | to be summed a token | link | 1 | 2 | 4 | 8 | 8, pipeline |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for model in MODELS:
        for link in LINKS:
            summed = 2 * model.layers * 2 * model.width
            rates = (1 / tensor(model, link, n) for n in MACHINES)
            cells = (*(f"{rate:.0f}" for rate in rates), f"{1 / pipeline(model, link, 8):.0f}")
            rows.append(f"| {model.name} | {summed / 1e6:.1f} MB | {link.name} | {' | '.join(cells)} |")
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
