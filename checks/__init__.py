"""Checks of artifacts: gates, which must pass before a release, and warnings.

A check is a function of an artifact and the recipe's thresholds. Dagster shows its outcome, and the release gate
evaluates the same function again.

Belongs here: checks, by what they judge. Not here: anything that makes or changes an artifact, and no import of
`speed_assets.assets`.
"""
