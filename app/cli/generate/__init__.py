"""Printing generated text: streamed answers, replays, tool calls and the text chat.

Read first: answers.py. Uses: options.
"""
