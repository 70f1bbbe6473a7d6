"""Vectors of sentences: mean pooling over the mask, normalised, compared by cosine (2021)."""

import csv

import torch
import torch.nn.functional as F
from scipy.stats import spearmanr
from transformers import AutoModel, AutoTokenizer


def mean_pooling(model_output, attention_mask):
    token_embeddings = model_output[0]
    mask = attention_mask.unsqueeze(-1).expand(token_embeddings.size()).float()
    return torch.sum(token_embeddings * mask, 1) / torch.clamp(mask.sum(1), min=1e-9)


with open("pairs.tsv", newline="") as file:
    rows = list(csv.DictReader(file, delimiter="\t"))
tokenizer = AutoTokenizer.from_pretrained("tiny-bert")
model = AutoModel.from_pretrained("tiny-bert")

vectors = []
for column in ("sentence1", "sentence2"):
    encoded = tokenizer(
        [row[column] for row in rows], padding=True, truncation=True, return_tensors="pt"
    )
    with torch.no_grad():
        output = model(**encoded)
    pooled = mean_pooling(output, encoded["attention_mask"])
    print(column, tuple(output.last_hidden_state.shape), tuple(output.pooler_output.shape))
    print(f"sum {pooled.abs().sum().item():.4f} pooler {output[1].sum().item():.4f}")
    vectors.append(F.normalize(pooled, p=2, dim=1))
cosines = F.cosine_similarity(*vectors)
for row, cosine in zip(rows, cosines.tolist()):
    print(f"{row['score']} {cosine:.5f}")
scores = [float(row["score"]) for row in rows]
print(f"spearman {spearmanr(scores, cosines.tolist()).statistic:.4f}")
nearest = (vectors[0] @ vectors[1].T).argmax(dim=1)
print("nearest", nearest.tolist())
