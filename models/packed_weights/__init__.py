"""Weights kept quantized for native code on a CPU, and their KV cache.

Read first: packed.py. Uses: configuration, modules.
"""
