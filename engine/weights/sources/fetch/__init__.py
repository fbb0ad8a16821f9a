"""Downloading models from a hub or a package index, and the catalogue of known models.

Read first: catalogue.py. Uses: no other folder.
"""
