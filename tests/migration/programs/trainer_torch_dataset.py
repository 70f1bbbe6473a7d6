"""Sentiment of reviews: a torch Dataset of encodings, a Trainer and compute_metrics (2020)."""

import csv

import torch
from sklearn.metrics import accuracy_score, precision_recall_fscore_support
from transformers import (
    BertForSequenceClassification,
    BertTokenizerFast,
    Trainer,
    TrainingArguments,
)

with open("reviews.csv", newline="") as file:
    rows = list(csv.DictReader(file))
texts = [row["text"] for row in rows]
labels = [int(row["label"]) for row in rows]

tokenizer = BertTokenizerFast.from_pretrained("tiny-bert-reviews")
train_encodings = tokenizer(texts[:16], truncation=True, padding=True)
test_encodings = tokenizer(texts[16:], truncation=True, padding=True)


class ReviewDataset(torch.utils.data.Dataset):
    def __init__(self, encodings, labels):
        self.encodings = encodings
        self.labels = labels

    def __getitem__(self, idx):
        item = {key: torch.tensor(val[idx]) for key, val in self.encodings.items()}
        item["labels"] = torch.tensor(self.labels[idx])
        return item

    def __len__(self):
        return len(self.labels)


def compute_metrics(pred):
    labels = pred.label_ids
    preds = pred.predictions.argmax(-1)
    precision, recall, f1, _ = precision_recall_fscore_support(labels, preds, average="binary")
    acc = accuracy_score(labels, preds)
    return {"accuracy": acc, "f1": f1, "precision": precision, "recall": recall}


training_args = TrainingArguments(
    output_dir="./results",
    num_train_epochs=6,
    per_device_train_batch_size=16,
    per_device_eval_batch_size=64,
    learning_rate=1e-3,
    warmup_steps=2,
    weight_decay=0.01,
    logging_steps=10,
    report_to="none",
)
model = BertForSequenceClassification.from_pretrained("tiny-bert-reviews")
trainer = Trainer(
    model=model,
    args=training_args,
    train_dataset=ReviewDataset(train_encodings, labels[:16]),
    eval_dataset=ReviewDataset(test_encodings, labels[16:]),
    compute_metrics=compute_metrics,
)
result = trainer.train()
print(f"steps {result.global_step}")
print(f"training loss {result.training_loss:.5f}")
metrics = trainer.evaluate()
for name in ("eval_loss", "eval_accuracy", "eval_f1", "eval_precision", "eval_recall"):
    print(f"{name} {metrics[name]:.5f}")
