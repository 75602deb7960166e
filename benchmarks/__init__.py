"""Measurements, never tests: each module compares within one run, repeats, and prints one JSON line last."""
