"""Benchmarks anyone can repeat: speed against each baseline here, the published MLPNet tables, and networks of real size.

``python -m woodfisher_core.benchmarks [{speed,published,scale}]``.
"""
