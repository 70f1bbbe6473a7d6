"""Some layers frozen, the others with rates that fall with their depth (2020 to 2023)."""

import csv

import torch
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    get_polynomial_decay_schedule_with_warmup,
)

with open("reviews.csv", newline="") as file:
    rows = list(csv.DictReader(file))
tokenizer = AutoTokenizer.from_pretrained("tiny-bert-reviews")
features = [{**tokenizer(row["text"]), "label": int(row["label"])} for row in rows]
model = AutoModelForSequenceClassification.from_pretrained("tiny-bert-reviews")

for param in model.bert.embeddings.parameters():
    param.requires_grad = False
trainable = sum(p.numel() for p in model.parameters() if p.requires_grad)
print("trainable", trainable, "of", sum(p.numel() for p in model.parameters()))
print("num_parameters", model.num_parameters(), model.num_parameters(only_trainable=True))

rate, decay = 2e-3, 0.5
groups = [{"params": [*model.classifier.parameters(), *model.bert.pooler.parameters()], "lr": rate}]
for layer in reversed(model.bert.encoder.layer):
    rate *= decay
    groups.append({"params": list(layer.parameters()), "lr": rate, "weight_decay": 0.01})
optimizer = torch.optim.AdamW(groups, lr=rate)
scheduler = get_polynomial_decay_schedule_with_warmup(optimizer, 1, 6, lr_end=1e-5, power=2.0)
before = {name: p.detach().clone() for name, p in model.named_parameters()}

trainer = Trainer(
    model=model,
    args=TrainingArguments("frozen", max_steps=6, per_device_train_batch_size=24, report_to="none"),
    train_dataset=features,
    data_collator=DataCollatorWithPadding(tokenizer),
    optimizers=(optimizer, scheduler),
)
print(f"train {trainer.train().training_loss:.5f}")
moved = {}
for name, parameter in model.named_parameters():
    part = ".".join(name.split(".")[:4]) if "layer." in name else ".".join(name.split(".")[:2])
    moved[part] = moved.get(part, 0.0) + (parameter - before[name]).abs().sum().item()
for part in ("bert.embeddings", "bert.encoder.layer.0", "bert.encoder.layer.1", "bert.pooler"):
    print(f"{part} moved by {moved[part]:.3f}")
print("rates", [f"{r:.3e}" for r in scheduler.get_last_lr()])
