"""Rows checked without training, and labels that may be wrong."""
