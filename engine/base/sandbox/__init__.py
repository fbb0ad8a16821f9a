"""Running code that a model or a stranger wrote, with limits on time, memory and files.

Read first: process.py. Uses: concurrency.
"""
