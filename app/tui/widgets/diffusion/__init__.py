"""Panels that show a diffusion model filling in its text, step by step.

Read first: diffusion_pane.py. Uses: no other folder.
"""
