"""Dialogs that ask one question: which model, adapter, file or row. Each returns its answer to the view that opened
it.

Read first: models.py. Uses: base, chat, training, widgets.
"""
