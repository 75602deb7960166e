"""What an asset asks of the outside: teacher, generator, worker processes, ledger, store.

Belongs here: effects behind small interfaces, each with a twin for tests. Not here: Dagster assets, or rules
of the loop (`speed_assets/domain`).
"""
