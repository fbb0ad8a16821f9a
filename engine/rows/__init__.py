"""Rows of data as strangers write them: what stands in a file, and the form that its columns are read as.

Training, evaluation and synthesis read the same files by it. Knows no model and no tokens.

Reads: no other room.
"""
