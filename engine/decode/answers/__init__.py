"""Comparing answers: extracting a result, judging it and voting.

Read first: extraction.py. Uses: no other folder.
"""
