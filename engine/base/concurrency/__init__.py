"""Child processes, a background thread, and long work cut into turns.

Read first: child_python.py. Uses: no other folder.
"""
