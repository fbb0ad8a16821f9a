"""The chat view and its parts: commands, tools, step mode and generation settings.

Read first: chat.py. Uses: no other folder.
"""
