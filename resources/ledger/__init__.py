"""Every teacher call, durable and paid once: database, prices, budget, and what can be read out of it.

Belongs here: calls as values, and where they are kept. Not here: sending them (`resources/teacher`).
"""
