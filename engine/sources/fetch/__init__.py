"""Brings a model's files into a folder, from a package index or the Hugging Face hub, and verifies them.

Landing them where they count as a model is the store's part, which imports either way only when it downloads.

Reads: no other room.
"""
