"""Pure functions and values of the SPEED loop.

Belongs here: what can be computed from values alone. It imports no Dagster and no engine, reads no clock, and opens no
file but the data that comes with the package or a dependency (prompt sets, the tables of the language identifier).
Compiled filters run in threads on all cores of the process (`folding.in_parallel`).
"""
