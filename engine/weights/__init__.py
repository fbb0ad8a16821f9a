"""Weights of models: loading, adapters, quantizing and writing.

Read first: sources/checkpoint.py. Uses: base, sampling, text.
"""
