"""The pages of the view "inside": attention, logit lens, causes, embeddings. Each page draws one result of the
engine.

Read first: page.py. Uses: base, chat.
"""
