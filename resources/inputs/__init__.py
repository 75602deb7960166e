"""What lies outside recipe and graph and still shapes results: topics, prompts, base models, evaluation sets.

Belongs here: finding those inputs, and their digests for fingerprints. Not here: what the stages make.
"""
