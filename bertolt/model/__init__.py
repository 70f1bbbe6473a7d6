"""The encoder, its attention seam, its heads and their losses."""
