"""A model written as one file or folder: adapters fused, GGUF with its tokenizer. Runs no model.

Reads: adapters, quantize, sources, statistics, tokenizer.
"""
