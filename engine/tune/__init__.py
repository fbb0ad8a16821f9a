"""Moving a model towards data: rows, batches, adapters, losses, optimisers, the loop, and what is written of it.

Nothing here prints; the loop yields events (`engine.tune.trainer`).

Reads: adapters, answers, decode, ranks, rewards, rows, sources, statistics, tokenizer, trace, write.
"""
