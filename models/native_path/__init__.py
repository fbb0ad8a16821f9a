"""Fast execution paths: the compiled step, and native code for packed weights on a CPU.

Read first: native.py. Uses: caches, configuration, families, modules, packed_weights.
"""
