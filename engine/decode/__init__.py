"""Decoding: strategies that draw, search or guess ahead, from a model's logits to a text, and the events of a run.

Reads: answers, ranks, tokenizer, trace, transforms.
"""
