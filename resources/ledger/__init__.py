"""Every teacher call, durable and paid once: database, prices, budget, and reports.

Belongs here: calls as values, and where they are stored. Not here: sending them (`resources/teacher`).
"""
