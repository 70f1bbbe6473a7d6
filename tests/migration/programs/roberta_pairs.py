"""RoBERTa by its own names: pairs of sentences, a masked word, sums of hidden states (2020)."""

import csv

import torch
from transformers import (
    AutoTokenizer,
    RobertaConfig,
    RobertaForMaskedLM,
    RobertaForSequenceClassification,
    RobertaModel,
)

tokenizer = AutoTokenizer.from_pretrained("tiny-roberta")
with open("pairs.tsv", newline="") as file:
    rows = list(csv.DictReader(file, delimiter="\t"))
batch = tokenizer(
    [row["sentence1"] for row in rows],
    [row["sentence2"] for row in rows],
    padding=True,
    return_tensors="pt",
)
print(list(batch), tuple(batch["input_ids"].shape), int(batch["input_ids"].sum()))
print(tokenizer.decode(batch["input_ids"][0]))

config = RobertaConfig.from_pretrained("tiny-roberta", num_labels=1)
model = RobertaForSequenceClassification.from_pretrained("tiny-roberta", config=config)
torch.manual_seed(6)
for layer in (model.classifier.dense, model.classifier.out_proj):
    torch.nn.init.normal_(layer.weight, std=0.1)
    torch.nn.init.zeros_(layer.bias)
labels = torch.tensor([float(row["score"]) / 5 for row in rows])
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
model.train()
for step in range(5):
    loss, logits = model(**batch, labels=labels)[:2]
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    print(f"step {step} loss {loss.item():.5f} {logits.sum().item():.4f}")

encoder = RobertaModel.from_pretrained("tiny-roberta", add_pooling_layer=False).eval()
words = RobertaForMaskedLM.from_pretrained("tiny-roberta").eval()
text = f"a man plays the{tokenizer.mask_token} ."
inputs = tokenizer(text, return_tensors="pt")
with torch.no_grad():
    print(f"states {encoder(**inputs).last_hidden_state.abs().sum().item():.3f}")
    logits = words(**inputs).logits
place = (inputs["input_ids"][0] == tokenizer.mask_token_id).nonzero().item()
best = logits[0, place].topk(3)
print([tokenizer.decode([i]) for i in best.indices.tolist()], f"{best.values.sum().item():.4f}")
