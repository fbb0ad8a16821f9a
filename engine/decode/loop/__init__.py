"""The decoding loop's parts: branches, the sampler, events, stop strings. Every strategy uses them.

Read first: branches.py. Uses: no other folder.
"""
