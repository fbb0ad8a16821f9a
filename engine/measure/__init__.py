"""Measuring models: evaluation, proofs, reasoning, scaling laws and synthetic data.

Read first: evaluate/evaluation.py. Uses: base, chat, decode, diffusion, inside, sampling, text, train, weights.
"""
