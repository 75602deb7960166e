"""The definitions of the project."""
