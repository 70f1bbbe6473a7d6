"""Sentence vectors trained by contrast within the batch, with one encoder for both (2021)."""

import csv

import torch
import torch.nn.functional as F
from transformers import AutoModel, AutoTokenizer

with open("pairs.tsv", newline="") as file:
    rows = list(csv.DictReader(file, delimiter="\t"))
rows = [row for row in rows if float(row["score"]) >= 3]
tokenizer = AutoTokenizer.from_pretrained("tiny-bert")
encoder = AutoModel.from_pretrained("tiny-bert")
encoder.train()
batch = tokenizer(
    [row["sentence1"] for row in rows] + [row["sentence2"] for row in rows],
    padding=True,
    return_tensors="pt",
)
optimizer = torch.optim.AdamW(encoder.parameters(), lr=5e-4)
labels = torch.arange(len(rows))
for step in range(4):
    output = encoder(**batch, output_hidden_states=True, return_dict=True)
    pooled = output.pooler_output
    first, second = F.normalize(pooled, dim=-1).chunk(2)
    scores = first @ second.T / 0.05
    loss = F.cross_entropy(scores, labels)
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    alignment = (first - second).norm(dim=1).pow(2).mean()
    print(f"step {step} loss {loss.item():.5f} alignment {alignment.item():.5f}")
encoder.eval()
with torch.no_grad():
    hidden = encoder(**batch, output_hidden_states=True).hidden_states
    joined = (hidden[0] + hidden[-1]) / 2.0 * batch["attention_mask"].unsqueeze(-1)
    average = joined.sum(1) / batch["attention_mask"].sum(-1, keepdim=True)
print(f"first and last layer {average.abs().sum().item():.4f}")
