"""Text in two forms: token ids and dataset rows.

Read first: tokenizer/tokenizer.py. Uses: base.
"""
