"""A stack of adapters, directions and posteriors put on a session. Knows not how any of them was made.

Reads: adapters, inside, posterior.
"""
