"""Strategies that use a second distribution: speculative decoding, contrast, guidance.

Read first: speculative.py. Uses: loop, sampled.
"""
