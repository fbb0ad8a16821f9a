"""Pretraining: a model from random weights on a person's own text. Tokenizer, shape, start and rates are made here; the
training itself is `engine.tune`'s.

Reads: adapters, ranks, rows, sources, tokenizer, trace, tune.
"""
