"""Inputs from outside recipe and graph that shape results: topics, prompts, base models, evaluation sets.

Belongs here: resolving those inputs, and their digests for fingerprints. Not here: what stages make of them.
"""
