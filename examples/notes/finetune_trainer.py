"""The notes' fine-tuning with the Trainer: finetune_trainer.py [MODEL [DATA]].

MODEL is a folder or a hub id; DATA is a folder with train.csv and test.csv, or a hub id. Only the
import lines and these two differ from the notes, but for the lines marked `added`.
"""
# ruff: noqa: E402, I001 - the lines stay as the notes have them

import sys
from bertolt.checkpoint.demo import demo_checkpoint
from movie_sentences import train_and_test

model_path = sys.argv[1] if len(sys.argv) > 1 else demo_checkpoint()
data_path = sys.argv[2] if len(sys.argv) > 2 else train_and_test()

from datasets import load_dataset
from bertolt import AutoTokenizer
from bertolt import AutoModelForSequenceClassification
from bertolt import TrainingArguments
from bertolt import Trainer

import numpy as np
from bertolt import load_metric

tokenizer = AutoTokenizer.from_pretrained(model_path)
model = AutoModelForSequenceClassification.from_pretrained(model_path, num_labels=2)

metric = load_metric("accuracy")
raw_datasets = load_dataset(data_path)


def tokenize_function(examples):
    return tokenizer(examples["text"], padding="max_length", truncation=True)


tokenized_datasets = raw_datasets.map(tokenize_function, batched=True)
small_train_dataset = tokenized_datasets["train"].shuffle(seed=42).select(range(1000))
small_eval_dataset = tokenized_datasets["test"].shuffle(seed=42).select(range(1000))


def compute_metrics(eval_pred):
    logits, labels = eval_pred
    predictions = np.argmax(logits, axis=-1)
    return metric.compute(predictions=predictions, references=labels)


training_args = TrainingArguments("test_trainer")  # added: the notes use it and do not define it

# training
trainer = Trainer(
    model=model,
    args=training_args,
    train_dataset=small_train_dataset,
    eval_dataset=small_eval_dataset,
    compute_metrics=compute_metrics,  # added: the notes define it and do not pass it
)

trainer.train()
print(trainer.evaluate())  # added: print, which a notebook does by itself
