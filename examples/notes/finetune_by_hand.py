"""The notes' fine-tuning with a loop by hand: finetune_by_hand.py [MODEL [DATA]].

MODEL is a folder or a hub id; DATA is a folder with train.csv and test.csv, or a hub id. Only the
import lines and these two differ from the notes, but for the lines marked `added`.
"""
# ruff: noqa: B007, E402, F401, F811, I001 - the lines stay as the notes have them

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
from torch.utils.data import DataLoader
from bertolt import AutoModelForSequenceClassification
from bertolt import AdamW
from bertolt import get_scheduler
from bertolt import load_metric  # added: used below

tokenizer = AutoTokenizer.from_pretrained(model_path)
model = AutoModelForSequenceClassification.from_pretrained(model_path, num_labels=2)
raw_datasets = load_dataset(data_path)


def tokenize_function(examples):  # added: these lines are in the notes' other program
    return tokenizer(examples["text"], padding="max_length", truncation=True)


tokenized_datasets = raw_datasets.map(tokenize_function, batched=True)  # added: likewise

tokenized_datasets = tokenized_datasets.remove_columns(["text"])
tokenized_datasets = tokenized_datasets.rename_column("label", "labels")
tokenized_datasets.set_format("torch")

small_train_dataset = tokenized_datasets["train"].shuffle(seed=42).select(range(1000))
small_eval_dataset = tokenized_datasets["test"].shuffle(seed=42).select(range(1000))

train_dataloader = DataLoader(small_train_dataset, shuffle=True, batch_size=8)
eval_dataloader = DataLoader(small_eval_dataset, batch_size=8)
optimizer = AdamW(model.parameters(), lr=5e-5)


num_epochs = 3
num_training_steps = num_epochs * len(train_dataloader)
lr_scheduler = get_scheduler(
    "linear",
    optimizer=optimizer,
    num_warmup_steps=0,
    num_training_steps=num_training_steps,
)

import torch

device = torch.device("cuda") if torch.cuda.is_available() else torch.device("cpu")
model.to(device)

from tqdm.auto import tqdm

progress_bar = tqdm(range(num_training_steps))

model.train()
for epoch in range(num_epochs):
    for batch in train_dataloader:
        batch = {k: v.to(device) for k, v in batch.items()}
        outputs = model(**batch)
        loss = outputs.loss
        loss.backward()

        optimizer.step()
        lr_scheduler.step()
        optimizer.zero_grad()
        progress_bar.update(1)


metric = load_metric("accuracy")
model.eval()
for batch in eval_dataloader:
    batch = {k: v.to(device) for k, v in batch.items()}
    with torch.no_grad():
        outputs = model(**batch)

    logits = outputs.logits
    predictions = torch.argmax(logits, dim=-1)
    metric.add_batch(predictions=predictions, references=batch["labels"])

print(metric.compute())  # added: print, which a notebook does by itself
