"""A pipeline that gives the vectors of all tokens (2020 to 2025)."""

import numpy as np
from transformers import pipeline

extractor = pipeline("feature-extraction", model="tiny-bert")
vectors = np.array(extractor("the ship leaves the harbour"))
print(vectors.shape, f"{np.abs(vectors).sum():.3f}")
several = extractor(["the train arrives at noon", "snow"])
for one in several:
    print(np.array(one).shape, f"{np.array(one).mean(axis=1)[0][:3].sum():.4f}")
