"""Pure functions and values of the SPEED loop.

Belongs here: what can be computed from values alone. Knows no Dagster, no engine, no disk, no clock.
"""
