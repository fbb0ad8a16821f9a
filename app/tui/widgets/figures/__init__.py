"""Charts, score tables and other figures.

Read first: chart.py. Uses: lists, transcript.
"""
