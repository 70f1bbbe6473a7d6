"""Predictions of a Trainer as classes, a report by class, and softmax by hand (2022)."""

import csv

import numpy as np
import torch
from sklearn.metrics import classification_report, confusion_matrix
from transformers import BertForSequenceClassification, BertTokenizer, Trainer, TrainingArguments

with open("reviews.csv", newline="") as file:
    rows = list(csv.DictReader(file))
tokenizer = BertTokenizer.from_pretrained("tiny-bert-reviews")
model = BertForSequenceClassification.from_pretrained("tiny-bert-reviews")


def as_rows(texts, labels=None):
    encoded = tokenizer(texts, truncation=True, padding=True, max_length=32)
    return [
        {name: column[k] for name, column in encoded.items()}
        | ({} if labels is None else {"labels": labels[k]})
        for k in range(len(texts))
    ]


texts = [row["text"] for row in rows]
labels = [int(row["label"]) for row in rows]
trainer = Trainer(
    model,
    TrainingArguments("out", per_device_eval_batch_size=5),
    train_dataset=as_rows(texts, labels),
)
output = trainer.predict(as_rows(texts, labels))
predictions = output.predictions.argmax(-1)
print(f"loss {output.metrics['test_loss']:.5f}")
print(confusion_matrix(output.label_ids, predictions).tolist())
report = classification_report(labels, predictions, output_dict=True, zero_division=0)
for name in ("0", "1", "macro avg"):
    print(name, " ".join(f"{report[name][key]:.4f}" for key in ("precision", "recall", "f1-score")))

raw_pred, label_ids, metrics = trainer.predict(as_rows(texts[:6]), metric_key_prefix="unseen")
probabilities = torch.nn.functional.softmax(torch.from_numpy(raw_pred), dim=-1)
print("no labels", label_ids is None, sorted(n for n in metrics if n.endswith("loss")))
for row in np.round(probabilities.numpy(), 4).tolist():
    print(row)
