"""Weights on disk: reading, writing, and the report of what was loaded."""
