"""Releases of a home: listing, comparing, cards, and pushing one to a hub.

Belongs here: what happens to a release once it is made. Not here: the stage that makes it
(`speed_assets/assets/release.py`) or its gates (`checks/`).
"""
