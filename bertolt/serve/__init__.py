"""The server: every task by its own schema, over one queue and `Predictor`."""
