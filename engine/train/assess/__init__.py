"""Judging a run before and after it: forecast, report, examination.

Read first: examination.py. Uses: data, losses, rewards, run.
"""
