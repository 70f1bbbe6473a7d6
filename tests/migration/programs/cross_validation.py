"""Three folds, a Trainer for each, predictions of rows that were left out (2021)."""

import csv

import numpy as np
from datasets import Dataset
from sklearn.metrics import log_loss
from sklearn.model_selection import StratifiedKFold
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    Trainer,
    TrainingArguments,
    set_seed,
)

set_seed(42)
with open("reviews.csv", newline="") as file:
    rows = [{"text": r["text"], "labels": int(r["label"])} for r in csv.DictReader(file)]
tokenizer = AutoTokenizer.from_pretrained("tiny-bert-reviews")
dataset = Dataset.from_list(rows).map(
    lambda row: tokenizer(row["text"], truncation=True, padding="max_length", max_length=24),
    remove_columns=["text"],
)
dataset.set_format("torch")
labels = np.array([row["labels"] for row in rows])
held_out = np.zeros((len(rows), 2))
folds = StratifiedKFold(n_splits=3, shuffle=True, random_state=0)
for fold, (train_idx, valid_idx) in enumerate(folds.split(np.zeros(len(labels)), labels)):
    trainer = Trainer(
        AutoModelForSequenceClassification.from_pretrained("tiny-bert-reviews"),
        TrainingArguments(
            f"fold{fold}",
            num_train_epochs=3,
            learning_rate=5e-4,
            per_device_train_batch_size=16,
            save_strategy="no",
            report_to="none",
        ),
        train_dataset=dataset.select(train_idx),
        eval_dataset=dataset.select(valid_idx),
    )
    trainer.train()
    logits = trainer.predict(dataset.select(valid_idx)).predictions
    exps = np.exp(logits - logits.max(axis=1, keepdims=True))
    held_out[valid_idx] = exps / exps.sum(axis=1, keepdims=True)
    print(f"fold {fold} loss {trainer.evaluate()['eval_loss']:.5f}")
print(f"log loss {log_loss(labels, held_out):.5f}")
print(f"accuracy {(held_out.argmax(1) == labels).mean():.4f}")
