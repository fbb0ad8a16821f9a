"""Tools of others: servers that a person names, talked to by the Model Context Protocol, and what a person allows them.

Two servers ship: `calculator`, and `folder`, which reads the files of one. `mcp`, an extra, is imported where the first
server is started. Knows no model and no screen.

Reads: no other room.
"""
