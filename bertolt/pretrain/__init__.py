"""Pretraining: a prepared corpus in, a trained encoder with its report out."""
