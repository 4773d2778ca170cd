"""Benchmarks anyone can repeat: speed against each baseline on this machine, and the published MLPNet tables.

``python -m woodfisher_core.benchmarks {speed,published}``.
"""
