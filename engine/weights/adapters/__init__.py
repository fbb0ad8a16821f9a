"""LoRA, DoRA and other adapters: their layers, options and files, also in PEFT's format.

Read first: lora.py. Uses: sources.
"""
