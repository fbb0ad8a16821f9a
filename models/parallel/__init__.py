"""Tensor parallelism: one model split over several processes.

Read first: shard.py. Uses: configuration, families, modules.
"""
