"""Artifacts on disk by fingerprint, in a home and in a store that several homes share.

Belongs here: fetching, writing, verifying and sharing artifacts. Not here: building them (`speed_assets/assets`).
"""
