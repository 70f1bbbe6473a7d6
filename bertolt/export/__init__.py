"""A model as a graph of another runtime: written, held to the model's own answers, measured."""
