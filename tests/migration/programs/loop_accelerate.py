"""Tags of words without a Trainer: accelerate, get_scheduler, a collator for tokens (2022)."""

import math

import torch
from accelerate import Accelerator
from accelerate.utils import set_seed
from torch.utils.data import DataLoader
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    get_scheduler,
)

sentences = []
with open("tags.txt") as file:
    for block in file.read().strip().split("\n\n"):
        pairs = [line.split("\t") for line in block.split("\n")]
        sentences.append(([word for word, _ in pairs], [tag for _, tag in pairs]))

accelerator = Accelerator(gradient_accumulation_steps=2, cpu=True)
set_seed(5)
tokenizer = AutoTokenizer.from_pretrained("tiny-bert-tags", use_fast=True)
model = AutoModelForTokenClassification.from_pretrained("tiny-bert-tags")
label_to_id = model.config.label2id

features = []
for words, tags in sentences:
    encoded = tokenizer(words, truncation=True, max_length=64, is_split_into_words=True)
    word_ids = encoded.word_ids()
    encoded["labels"] = [-100 if i is None else label_to_id[tags[i]] for i in word_ids]
    features.append(encoded)

collator = DataCollatorForTokenClassification(tokenizer, pad_to_multiple_of=8)
train_dataloader = DataLoader(features, collate_fn=collator, batch_size=2)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
num_epochs = 3
steps_per_epoch = math.ceil(len(train_dataloader) / accelerator.gradient_accumulation_steps)
lr_scheduler = get_scheduler(
    name="cosine",
    optimizer=optimizer,
    num_warmup_steps=1,
    num_training_steps=steps_per_epoch * num_epochs,
)
model, optimizer, train_dataloader, lr_scheduler = accelerator.prepare(
    model, optimizer, train_dataloader, lr_scheduler
)
for epoch in range(num_epochs):
    model.train()
    losses = []
    for batch in train_dataloader:
        with accelerator.accumulate(model):
            outputs = model(**batch)
            losses.append(accelerator.gather(outputs.loss.detach().reshape(1)))
            accelerator.backward(outputs.loss)
            if accelerator.sync_gradients:
                accelerator.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            lr_scheduler.step()
            optimizer.zero_grad()
    print(f"epoch {epoch} loss {torch.cat(losses).mean().item():.5f}")

model.eval()
right = total = 0
for batch in train_dataloader:
    with torch.no_grad():
        predictions = model(**batch).logits.argmax(dim=-1)
    predictions, labels = accelerator.gather_for_metrics((predictions, batch["labels"]))
    right += ((predictions == labels) & (labels != -100)).sum().item()
    total += (labels != -100).sum().item()
print(f"right {right} of {total}")
unwrapped = accelerator.unwrap_model(model)
unwrapped.save_pretrained(
    "tagger", is_main_process=accelerator.is_main_process, save_function=accelerator.save
)
again = AutoModelForTokenClassification.from_pretrained("tagger")
print(f"saved {sum(p.abs().sum().item() for p in again.parameters()):.3f}")
