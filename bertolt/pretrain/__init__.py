"""Pretraining: a prepared corpus in, a trained encoder out."""
