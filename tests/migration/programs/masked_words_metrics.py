"""Masked words with an accuracy: logits cut to the best ids before they are gathered (2022)."""

import numpy as np
import torch
from transformers import (
    AutoModelForMaskedLM,
    AutoTokenizer,
    Trainer,
    TrainingArguments,
    default_data_collator,
)

tokenizer = AutoTokenizer.from_pretrained("tiny-bert")
model = AutoModelForMaskedLM.from_pretrained("tiny-bert")
rows = []
with open("plain.txt") as file:
    for number, line in enumerate(filter(str.strip, file)):
        row = tokenizer(line.strip(), padding="max_length", max_length=32, truncation=True)
        labels = [-100] * 32
        length = sum(row["attention_mask"])
        for place in range(1 + number % 4, length - 1, 4):
            labels[place] = row["input_ids"][place]
            row["input_ids"][place] = tokenizer.mask_token_id
        rows.append({**row, "labels": labels})


def preprocess_logits_for_metrics(logits, labels):
    if isinstance(logits, tuple):
        logits = logits[0]
    return logits.argmax(dim=-1)


def compute_metrics(eval_preds):
    preds, labels = eval_preds
    labels, preds = labels.reshape(-1), preds.reshape(-1)
    mask = labels != -100
    return {"accuracy": float((preds[mask] == labels[mask]).mean()), "labels": int(mask.sum())}


trainer = Trainer(
    model=model,
    args=TrainingArguments(
        "words",
        max_steps=12,
        learning_rate=5e-3,
        per_device_train_batch_size=20,
        per_device_eval_batch_size=20,
        eval_strategy="steps",
        eval_steps=4,
        save_strategy="no",
        report_to="none",
    ),
    train_dataset=rows,
    eval_dataset=rows,
    data_collator=default_data_collator,
    compute_metrics=compute_metrics,
    preprocess_logits_for_metrics=preprocess_logits_for_metrics,
)
trainer.train()
for entry in trainer.state.log_history:
    if "eval_accuracy" in entry:
        print(f"{entry['step']}: {entry['eval_loss']:.4f} {entry['eval_accuracy']:.4f}")
print("labels", trainer.evaluate()["eval_labels"])

model.eval()
inputs = tokenizer(f"the ship {tokenizer.mask_token} the harbour .", return_tensors="pt")
with torch.no_grad():
    logits = model(**inputs).logits
place = (inputs["input_ids"] == tokenizer.mask_token_id)[0].nonzero(as_tuple=True)[0]
best = torch.topk(logits[0, place], 3, dim=1)
print(
    tokenizer.convert_ids_to_tokens(best.indices[0].tolist()), np.round(best.values[0].tolist(), 4)
)
