"""Two held-out sets by name, evaluated while training, and one more by a prefix (2022)."""

import csv

import numpy as np
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

with open("reviews.csv", newline="") as file:
    rows = list(csv.DictReader(file))
tokenizer = AutoTokenizer.from_pretrained("tiny-bert-reviews")
features = [{**tokenizer(row["text"]), "label": int(row["label"])} for row in rows]
eval_sets = {"seen": features[:8], "unseen": features[16:20]}

trainer = Trainer(
    model=AutoModelForSequenceClassification.from_pretrained("tiny-bert-reviews"),
    args=TrainingArguments(
        output_dir="sets",
        max_steps=4,
        eval_strategy="steps",
        eval_steps=2,
        learning_rate=1e-3,
        per_device_train_batch_size=16,
        save_strategy="no",
        report_to="none",
    ),
    train_dataset=features[:16],
    eval_dataset=eval_sets,
    data_collator=DataCollatorWithPadding(tokenizer),
    compute_metrics=lambda p: {"accuracy": float(np.mean(p.predictions.argmax(-1) == p.label_ids))},
)
trainer.train()
for entry in trainer.state.log_history:
    for name, value in sorted(entry.items()):
        if name.startswith("eval_") and name.endswith(("loss", "accuracy")):
            print(f"{entry['step']} {name} {value:.4f}")
metrics = trainer.evaluate(features[20:], metric_key_prefix="last")
print(f"last {metrics['last_loss']:.5f} {metrics['last_accuracy']:.3f}")
