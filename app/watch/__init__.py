"""A server watched from outside: its address and key, its requests as events, and its process where we started it.

Reads: no other room.
"""
