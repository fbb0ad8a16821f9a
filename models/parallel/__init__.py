"""A model shared between ranks: what each holds, and what they exchange while it runs.

Reads: families.
"""
