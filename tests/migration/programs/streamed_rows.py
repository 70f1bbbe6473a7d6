"""Rows that are streamed, so many steps instead of epochs (2023)."""

import csv

import torch
from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

tokenizer = AutoTokenizer.from_pretrained("tiny-bert-reviews")
with open("reviews.csv", newline="") as file:
    rows = [{"text": r["text"], "label": int(r["label"])} for r in csv.DictReader(file)]
streamed = Dataset.from_list(rows).to_iterable_dataset()
streamed = streamed.map(lambda batch: tokenizer(batch["text"], truncation=True), batched=True)
streamed = streamed.remove_columns(["text"])


class Endless(torch.utils.data.IterableDataset):
    def __iter__(self):
        while True:
            yield from ({**tokenizer(row["text"]), "labels": row["label"]} for row in rows)


for name, data in (("datasets", streamed), ("torch", Endless())):
    trainer = Trainer(
        model=AutoModelForSequenceClassification.from_pretrained("tiny-bert-reviews"),
        args=TrainingArguments(
            output_dir="streamed",
            max_steps=5,
            per_device_train_batch_size=8,
            learning_rate=1e-3,
            lr_scheduler_type="constant_with_warmup",
            warmup_steps=2,
            logging_steps=1,
            save_strategy="no",
            report_to="none",
        ),
        train_dataset=data,
        data_collator=DataCollatorWithPadding(tokenizer),
    )
    trainer.train()
    for entry in trainer.state.log_history:
        if "loss" in entry:
            print(f"{name} {entry['step']}: {entry['loss']:.4f} {entry['learning_rate']:.2e}")
