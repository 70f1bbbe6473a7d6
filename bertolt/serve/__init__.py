"""The server over `Predictor`, and its page."""
