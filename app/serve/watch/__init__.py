"""A client that shows a running server's requests on the screen. It can also start a server of its own.

Read first: client.py. Uses: no other folder.
"""
