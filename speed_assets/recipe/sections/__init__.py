"""The sections of a recipe, by concern. Each field has its meaning, unit and source below it; Dagster and `speed` show it.

Belongs here: fields, their ranges, rules within one section. Not here: rules between sections (`recipe/rules.py`).
"""
