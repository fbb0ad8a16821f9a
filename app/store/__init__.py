"""The SQLite store of conversations and evaluations, and files made from it. A save survives a crash, and a damaged
database is recovered.

Read first: store.py. Uses: words.
"""
