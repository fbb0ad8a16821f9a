"""The state of a chat on the screen: the transcript, running answers and saving. It has no widgets.

Read first: chat_session.py. Uses: base.
"""
