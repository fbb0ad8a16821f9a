"""Facts about this machine and this installation: memory, processor, execution path.

Read first: hardware.py. Uses: concurrency.
"""
