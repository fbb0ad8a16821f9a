"""Table of everyday options: of the verbs with many those that `--help` shows first, by parameter name. The others are
behind `--help-all`. Knows nothing of what they do.
"""

SAMPLING = ("preset", "temp", "top_p", "top_k", "min_p", "repetition_penalty", "seed", "max_tokens", "stop")
EVERYDAY: dict[str, tuple[str, ...]] = {
    "chat": ("model", "adapters", "plain", "resume", "system", "server", *SAMPLING),
    "run": (
        "model", "adapters", "files", "system", "raw", "save", "replay", "answers", "as_json", "quiet", "strategy",
        "choice", "json_schema", "servers", "tools", *SAMPLING,
    ),
    "reason": ("model", "adapters", "method", "paths", "file", "mapped", "as_json", "temp", "seed", "max_tokens"),
    "tune": (
        "model", "out", "map", "test", "config", "resume", "dry_run", "screen", "as_json", "rank", "rate", "epochs",
        "steps", "batch", "length", "objective", "kind", "seed",
    ),
    "pretrain": (
        "out", "size", "tokenizer", "tokens", "context", "batch", "rate", "config", "resume", "dry_run", "screen",
        "as_json", "seed",
    ),
    "eval": (
        "models", "adapters", "text", "chat", "limit", "shots", "mapped", "measures", "stored", "report", "as_json",
    ),
    "inside": ("file", "model", "adapters", "chat", "lens", "heads", "target", "foil", "neighbours", "as_json"),
}  # fmt: skip
