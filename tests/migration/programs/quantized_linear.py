"""Linear layers in 8 bits after training, answers and sizes compared (2020)."""

import csv
import os

import torch
from transformers import BertForSequenceClassification, BertTokenizer

with open("reviews.csv", newline="") as file:
    rows = list(csv.DictReader(file))
tokenizer = BertTokenizer.from_pretrained("tiny-bert-reviews")
model = BertForSequenceClassification.from_pretrained("tiny-bert-reviews")
model.eval()
quantized_model = torch.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8)
kinds = {type(module).__module__ for module in quantized_model.modules()}
print("quantized", any("quantized" in kind for kind in kinds))


def size_of_model(model):
    torch.save(model.state_dict(), "temp.p")
    return os.path.getsize("temp.p")


print("smaller", size_of_model(quantized_model) < size_of_model(model))
batch = tokenizer([row["text"] for row in rows], padding=True, return_tensors="pt")
with torch.no_grad():
    plain, quantized = model(**batch).logits, quantized_model(**batch).logits
print(f"plain {plain.abs().sum().item():.4f}")
print(f"quantized {quantized.abs().sum().item():.1f}")
print("same answers", int((plain.argmax(1) == quantized.argmax(1)).sum()) >= len(rows) - 3)
