"""Masked diffusion models: denoising, infilling and likelihood bounds.

Read first: denoiser.py. Uses: base, decode, sampling, text, train.
"""
