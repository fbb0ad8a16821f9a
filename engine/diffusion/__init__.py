"""Masked diffusion: the joint distribution of a text factorised in any order, by a model that sees both ways.

Reads: decode, statistics, tokenizer, trace, tune.
"""
