"""Sentiment of reviews in the manner of a course: datasets, map, dynamic padding (2021)."""

import numpy as np
from datasets import load_dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

checkpoint = "tiny-bert-reviews"
raw_datasets = load_dataset("csv", data_files="reviews.csv", split="train")
raw_datasets = raw_datasets.train_test_split(test_size=8, shuffle=False)
tokenizer = AutoTokenizer.from_pretrained(checkpoint)


def tokenize_function(example):
    return tokenizer(example["text"], truncation=True)


tokenized_datasets = raw_datasets.map(tokenize_function, batched=True)
data_collator = DataCollatorWithPadding(tokenizer=tokenizer)


def compute_metrics(eval_preds):
    logits, labels = eval_preds
    predictions = np.argmax(logits, axis=-1)
    return {"accuracy": (predictions == labels).mean()}


training_args = TrainingArguments(
    "test-trainer",
    eval_strategy="epoch",
    num_train_epochs=4,
    learning_rate=5e-4,
    per_device_train_batch_size=4,
    train_sampling_strategy="sequential",
    logging_steps=4,
)
model = AutoModelForSequenceClassification.from_pretrained(checkpoint, num_labels=2)
trainer = Trainer(
    model,
    training_args,
    train_dataset=tokenized_datasets["train"],
    eval_dataset=tokenized_datasets["test"],
    data_collator=data_collator,
    processing_class=tokenizer,
    compute_metrics=compute_metrics,
)
trainer.train()
for entry in trainer.state.log_history:
    if "eval_loss" in entry:
        print(f"epoch {entry['epoch']:.0f} eval loss {entry['eval_loss']:.5f}", end=" ")
        print(f"accuracy {entry['eval_accuracy']:.3f}")
    elif "loss" in entry:
        print(f"step {entry['step']} loss {entry['loss']:.4f} rate {entry['learning_rate']:.3e}")

predictions = trainer.predict(tokenized_datasets["test"])
print(predictions.predictions.shape, predictions.label_ids.shape)
