"""Strangers' programs, chat templates, run where they can do no harm: `process.ask`. Imports no more than jinja2.

Reads: no other room.
"""
