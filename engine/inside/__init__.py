"""The inside of a model: embeddings, attention, layers, and what causes what.

Reads: decode, sources, statistics, tokenizer.
"""
