"""Adapters: low-rank or full changes of a model's weights, how they are stored, and the layers that apply them.

Reads: sources.
"""
