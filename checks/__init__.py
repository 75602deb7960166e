"""What must be true of every artifact, and what ought to be.

A check is a plain function of an artifact and the recipe's thresholds. Dagster shows it, and the release gate
calls the same function again for itself.

Belongs here: judgements, by concern. Refers to assets by name. Not here: making or mending anything, and no
import of `speed_assets.assets`.
"""
