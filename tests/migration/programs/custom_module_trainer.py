"""A module of one's own in the Trainer: it takes labels, and returns a dictionary (2022)."""

import csv

import torch
from torch import nn
from transformers import (
    AutoModel,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)


class AttentionPooled(nn.Module):
    def __init__(self, name, num_labels):
        super().__init__()
        self.encoder = AutoModel.from_pretrained(name)
        self.num_labels = num_labels
        torch.manual_seed(2)
        self.query = nn.Linear(self.encoder.config.hidden_size, 1)
        self.head = nn.Linear(self.encoder.config.hidden_size, num_labels)

    def forward(self, input_ids, attention_mask, token_type_ids=None, labels=None):
        states = self.encoder(
            input_ids=input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids
        ).last_hidden_state
        scores = self.query(states).squeeze(-1).masked_fill(attention_mask == 0, -1e4)
        pooled = (scores.softmax(-1).unsqueeze(-1) * states).sum(1)
        logits = self.head(pooled)
        loss = None
        if labels is not None:
            loss = nn.functional.cross_entropy(logits, labels)
        return {"loss": loss, "logits": logits} if loss is not None else {"logits": logits}


with open("reviews.csv", newline="") as file:
    rows = list(csv.DictReader(file))
tokenizer = AutoTokenizer.from_pretrained("tiny-bert")
features = [{**tokenizer(row["text"]), "label": int(row["label"])} for row in rows]


def compute_metrics(p):
    return {"accuracy": float((p.predictions.argmax(-1) == p.label_ids).mean())}


trainer = Trainer(
    model=AttentionPooled("tiny-bert", 2),
    args=TrainingArguments(
        output_dir="pooled",
        num_train_epochs=4,
        learning_rate=2e-3,
        per_device_train_batch_size=24,
        report_to="none",
        save_strategy="no",
    ),
    train_dataset=features[:16],
    eval_dataset=features[16:],
    data_collator=DataCollatorWithPadding(tokenizer),
    compute_metrics=compute_metrics,
)
print(f"train {trainer.train().training_loss:.5f}")
metrics = trainer.evaluate()
print(f"eval {metrics['eval_loss']:.5f} {metrics['eval_accuracy']:.3f}")
print(f"logits {trainer.predict(features[16:]).predictions.sum():.4f}")
