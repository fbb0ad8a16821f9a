"""Bayesian posteriors over an adapter's weights (Laplace, SWAG, ensembles).

Read first: posterior.py. Uses: data, run.
"""
