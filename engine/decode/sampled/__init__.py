"""Strategies that sample: one answer, several, a batch, a budget of thought.

Read first: sample.py. Uses: answers, loop.
"""
