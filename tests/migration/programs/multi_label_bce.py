"""Several topics for a text: floats as labels, binary cross-entropy, micro F1 (2022)."""

import json
import os

import numpy as np
from datasets import Dataset
from sklearn.metrics import f1_score, roc_auc_score
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    EvalPrediction,
    Trainer,
    TrainingArguments,
)

labels = ["sport", "money", "weather"]
id2label = {number: label for number, label in enumerate(labels)}
label2id = {label: number for number, label in enumerate(labels)}
with open("topics.jsonl") as file:
    rows = [json.loads(line) for line in file]
tokenizer = AutoTokenizer.from_pretrained("tiny-bert-topics")


def preprocess_data(examples):
    encoding = tokenizer(examples["text"], truncation=True, max_length=64)
    matrix = np.zeros((len(examples["text"]), len(labels)))
    for row, topics in enumerate(examples["topics"]):
        for topic in topics:
            matrix[row, label2id[topic]] = 1.0
    encoding["labels"] = matrix.tolist()
    return encoding


dataset = Dataset.from_list(rows)
encoded = dataset.map(preprocess_data, batched=True, remove_columns=dataset.column_names)
model = AutoModelForSequenceClassification.from_pretrained(
    "tiny-bert-topics",
    problem_type="multi_label_classification",
    num_labels=len(labels),
    id2label=id2label,
    label2id=label2id,
)


def compute_metrics(p: EvalPrediction):
    preds = p.predictions[0] if isinstance(p.predictions, tuple) else p.predictions
    probs = 1 / (1 + np.exp(-preds))
    y_pred = (probs >= 0.5).astype(int)
    return {
        "f1": f1_score(p.label_ids, y_pred, average="micro"),
        "roc_auc": roc_auc_score(p.label_ids, probs, average="micro"),
    }


trainer = Trainer(
    model,
    TrainingArguments(
        "topics",
        learning_rate=2e-3,
        num_train_epochs=6,
        per_device_train_batch_size=6,
        train_sampling_strategy="sequential",
        eval_strategy="epoch",
        save_strategy="epoch",
        load_best_model_at_end=True,
        metric_for_best_model="f1",
        report_to="none",
    ),
    train_dataset=encoded,
    eval_dataset=encoded,
    processing_class=tokenizer,
    data_collator=DataCollatorWithPadding(tokenizer),
    compute_metrics=compute_metrics,
)
trainer.train()
for entry in trainer.state.log_history:
    if "eval_f1" in entry:
        print(f"{entry['epoch']:.0f}: {entry['eval_loss']:.4f}", end=" ")
        print(f"{entry['eval_f1']:.4f} {entry['eval_roc_auc']:.4f}")
best = os.path.basename(trainer.state.best_model_checkpoint)
print("checkpoint", best)
saved = AutoModelForSequenceClassification.from_pretrained(f"topics/{best}")
print(f"saved {saved.classifier.weight.abs().sum().item():.5f}", sorted(saved.config.label2id))
print(f"best f1 {trainer.state.best_metric:.4f} again {trainer.evaluate()['eval_f1']:.4f}")
