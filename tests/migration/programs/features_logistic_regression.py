"""BERT as a source of features: padding by hand, the first token, scikit-learn (2019)."""

import csv

import numpy as np
import torch
from sklearn.linear_model import LogisticRegression
from transformers import BertModel, BertTokenizer

model_class, tokenizer_class, pretrained_weights = (BertModel, BertTokenizer, "tiny-bert")
tokenizer = tokenizer_class.from_pretrained(pretrained_weights)
model = model_class.from_pretrained(pretrained_weights)

with open("reviews.csv", newline="") as file:
    rows = list(csv.DictReader(file))
labels = np.array([int(row["label"]) for row in rows])
tokenized = [tokenizer.encode(row["text"], add_special_tokens=True) for row in rows]
max_len = max(len(ids) for ids in tokenized)
padded = np.array([ids + [0] * (max_len - len(ids)) for ids in tokenized])
attention_mask = np.where(padded != 0, 1, 0)
print("padded", padded.shape, int(padded.sum()), int(attention_mask.sum()))

input_ids = torch.tensor(padded)
attention_mask = torch.tensor(attention_mask)
with torch.no_grad():
    last_hidden_states = model(input_ids, attention_mask=attention_mask)
features = last_hidden_states[0][:, 0, :].numpy()
print("features", features.shape, f"{np.abs(features).sum():.4f}")

classifier = LogisticRegression(C=1.0)
classifier.fit(features[:16], labels[:16])
print(f"train {classifier.score(features[:16], labels[:16]):.4f}")
print(f"test {classifier.score(features[16:], labels[16:]):.4f}")
print("probabilities", np.round(classifier.predict_proba(features[16:])[:, 1], 3).tolist())
print(tokenizer.decode(tokenized[0]), tokenizer.convert_ids_to_tokens(tokenized[0])[:4])
