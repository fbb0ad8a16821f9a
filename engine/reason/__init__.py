"""Reasoning: a chain of thought asked for, drawn several times, scored and checked step by step; an answer chosen.

Reads: answers, decode, evaluate, rows, statistics, trace, transforms.
"""
