"""Metrics of a server in Prometheus' text format (version 0.0.4). Counts; knows no transport."""

from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping

EDGES = (0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0)  # seconds


class Histogram:
    """Seconds, counted by the edge that they do not pass."""

    def __init__(self) -> None:
        self.counts = [0] * (len(EDGES) + 1)
        self.total = 0.0

    def add(self, seconds: float) -> None:
        self.counts[bisect_left(EDGES, seconds)] += 1
        self.total += seconds

    def lines(self, name: str, help: str) -> list[str]:
        rows, below = _named(name, help, "histogram"), 0
        for edge, count in zip((*map(str, EDGES), "+Inf"), self.counts, strict=True):
            below += count
            rows.append(f'{name}_bucket{{le="{edge}"}} {below}')
        return [*rows, f"{name}_sum {self.total:.6f}", f"{name}_count {below}"]


class ServerMetrics:
    """Counters since the server began."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, int]] = Counter()  # by route and status
        self.tokens: Counter[str] = Counter()  # prompt, reused, completion
        self.first_s = Histogram()
        self.whole_s = Histogram()

    def text(self, gauges: Mapping[str, int]) -> str:
        """All of them, and what is measured now by its name."""
        lines = _named("likely_requests_total", "Requests that ended, by route and status.", "counter")
        for (route, status), count in sorted(self.requests.items()):
            lines.append(f'likely_requests_total{{route="{route}",status="{status}"}} {count}')
        lines += _named("likely_tokens_total", "Tokens read, found in a cache, and drawn.", "counter")
        lines += [f'likely_tokens_total{{kind="{kind}"}} {count}' for kind, count in sorted(self.tokens.items())]
        lines += self.first_s.lines("likely_first_token_seconds", "From a request to its first token.")
        lines += self.whole_s.lines("likely_request_seconds", "From a request to its end.")
        for name, value in gauges.items():
            lines += [*_named(f"likely_{name}", f"{name.replace('_', ' ')} now.", "gauge"), f"likely_{name} {value}"]
        return "\n".join(lines) + "\n"


def _named(name: str, help: str, kind: str) -> list[str]:
    return [f"# HELP {name} {help}", f"# TYPE {name} {kind}"]
