"""Unbalanced classes: a Trainer whose compute_loss weights them (2021, with the newer argument)."""

import csv

import torch
from datasets import Dataset
from torch import nn
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

with open("reviews.csv", newline="") as file:
    rows = [row for row in csv.DictReader(file)]
positive = [row for row in rows if row["label"] == "1"]
negative = [row for row in rows if row["label"] == "0"]
rows = positive + negative[:3]

tokenizer = AutoTokenizer.from_pretrained("tiny-bert-reviews")
dataset = Dataset.from_list([{"text": r["text"], "label": int(r["label"])} for r in rows])
dataset = dataset.map(lambda batch: tokenizer(batch["text"], truncation=True), batched=True)
dataset = dataset.remove_columns(["text"])


class WeightedTrainer(Trainer):
    def compute_loss(self, model, inputs, return_outputs=False, num_items_in_batch=None):
        labels = inputs.pop("labels")
        outputs = model(**inputs)
        logits = outputs.get("logits")
        loss_fct = nn.CrossEntropyLoss(weight=torch.tensor([4.0, 1.0], device=logits.device))
        loss = loss_fct(logits.view(-1, self.model.config.num_labels), labels.view(-1))
        return (loss, outputs) if return_outputs else loss


trainer = WeightedTrainer(
    model=AutoModelForSequenceClassification.from_pretrained("tiny-bert-reviews"),
    args=TrainingArguments(
        output_dir="weighted",
        max_steps=5,
        learning_rate=1e-3,
        per_device_train_batch_size=15,
        per_device_eval_batch_size=15,
        report_to=[],
    ),
    data_collator=DataCollatorWithPadding(tokenizer),
    train_dataset=dataset,
    eval_dataset=dataset,
)
print(f"before {trainer.evaluate()['eval_loss']:.5f}")
print(f"train {trainer.train().training_loss:.5f}")
print(f"after {trainer.evaluate()['eval_loss']:.5f}")
output = trainer.predict(dataset)
print("predicted as negative", int((output.predictions.argmax(-1) == 0).sum()))
