"""Scaling laws: planning a sweep of training runs, fitting the law, forecasting.

Read first: sweep.py. Uses: no other folder.
"""
