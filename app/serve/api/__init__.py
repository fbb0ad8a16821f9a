"""The server's request and response formats, one module for each API. It turns JSON into engine calls and events into
JSON.

Read first: exchange.py. Uses: watch.
"""
