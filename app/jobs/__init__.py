"""Workers, the threads that own a model, and the requests they answer. A job is an iterator of engine events.

Read first: worker.py. Uses: results, store.
"""
