"""Built-in tools, and tool servers that speak the Model Context Protocol. Consent to a tool call is decided here.

Read first: specs.py. Uses: words.
"""
