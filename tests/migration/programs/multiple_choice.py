"""The likeliest ending of a sentence: choices beside each other, a Trainer (2021)."""

import json

import numpy as np
from datasets import Dataset
from transformers import (
    AutoModelForMultipleChoice,
    AutoTokenizer,
    DataCollatorForMultipleChoice,
    Trainer,
    TrainingArguments,
)

with open("choices.jsonl") as file:
    rows = [json.loads(line) for line in file]
tokenizer = AutoTokenizer.from_pretrained("tiny-bert-score")


def preprocess(examples):
    firsts = [[start] * 4 for start in examples["start"]]
    firsts = sum(firsts, [])
    seconds = sum(examples["endings"], [])
    encoded = tokenizer(firsts, seconds, truncation=True)
    return {k: [v[i : i + 4] for i in range(0, len(v), 4)] for k, v in encoded.items()}


dataset = Dataset.from_list(rows).map(preprocess, batched=True, remove_columns=["start", "endings"])


def compute_metrics(eval_predictions):
    predictions, label_ids = eval_predictions
    preds = np.argmax(predictions, axis=1)
    return {"accuracy": (preds == label_ids).astype(np.float32).mean().item()}


trainer = Trainer(
    model=AutoModelForMultipleChoice.from_pretrained("tiny-bert-score"),
    args=TrainingArguments(
        output_dir="choices",
        eval_strategy="steps",
        eval_steps=4,
        max_steps=12,
        learning_rate=1e-3,
        per_device_train_batch_size=2,
        per_device_eval_batch_size=4,
        train_sampling_strategy="sequential",
        save_strategy="no",
    ),
    train_dataset=dataset,
    eval_dataset=dataset,
    processing_class=tokenizer,
    data_collator=DataCollatorForMultipleChoice(tokenizer=tokenizer),
    compute_metrics=compute_metrics,
)
trainer.train()
for entry in trainer.state.log_history:
    if "eval_loss" in entry:
        print(f"{entry['step']}: {entry['eval_loss']:.5f} {entry['eval_accuracy']:.3f}")
predictions = trainer.predict(dataset)
print("choices", predictions.predictions.argmax(axis=1).tolist(), predictions.predictions.shape)
