"""A Dagster project with recipes among its assets."""
