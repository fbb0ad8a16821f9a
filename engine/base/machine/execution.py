"""Execution paths: what a model whose weights stay packed does natively, what through mlx's graph, and why.

The choice is made in two places that this table describes: `sources.checkpoint` for a model, when it is loaded, and
`models.native` for a pass, when it is asked for something that the native one has not. Imports no mlx.
"""

from dataclasses import dataclass

NATIVE, GRAPH = "native", "graph"


@dataclass(frozen=True, slots=True)
class ExecutionPath:
    """Path that a use of a model takes, and why."""

    use: str
    path: str  # NATIVE | GRAPH
    why: str


PATHS = (
    ExecutionPath("answers", NATIVE, "one call reads, another has the logits; activations of 16 bits, which is faster"),
    ExecutionPath("measures: explain, eval, diff, the text view", NATIVE, "the same, activations as exact as float32"),
    ExecutionPath(
        "several answers, beams, searches, power", NATIVE, "its cache holds several texts, forks and goes back"
    ),
    ExecutionPath("guesses (--ngram, --draft-model)", NATIVE, "checking guesses is a pass over a few rows"),
    ExecutionPath("bound answers (--regex, --json-schema)", NATIVE, "what is allowed is decided on logits"),
    ExecutionPath("kept prefixes (--prefix-cache)", NATIVE, "keys and values are kept as they are"),
    ExecutionPath("two conversations by turns", NATIVE, "each has a cache, and nobody writes the weights"),
    ExecutionPath("adapters and directions (--adapter)", NATIVE, "low ranks stand beside products, in the same call"),
    ExecutionPath("the lens, a silent head, embeddings by layer, dola", NATIVE, "the call hands out what layers give"),
    ExecutionPath("an adapter's posterior (explain's ±)", GRAPH, "each row of a batch has weights of its own"),
    ExecutionPath("packed keys and values (--kv-bits)", GRAPH, "a native cache holds float32"),
    ExecutionPath("a window of keys", GRAPH, "a native cache holds every position"),
    ExecutionPath("heads, causes, patches (likely inside)", GRAPH, "a native pass gives no attention and no gradient"),
    ExecutionPath(
        "likely tune: LoRA, PiSSA", NATIVE, "forward and back over packed weights; of them few are floats at a time"
    ),
    ExecutionPath("likely tune: DoRA, dropout, an embedding, all weights", GRAPH, "these gradients only the graph has"),
    ExecutionPath("likely fuse", GRAPH, "the file's own packing is merged into and written"),
    ExecutionPath("likely quantize", GRAPH, "a layer at a time is read from the file and measured"),
    ExecutionPath("several processes (mlx.launch)", GRAPH, "each rank holds a share of every product"),
)
"""Of a model that `engine.sources.checkpoint.not_native` has no reason against; the others take the graph for all."""
