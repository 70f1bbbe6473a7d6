"""Acceptability in the style of 2019: encode_plus, samplers, tuples that models return."""

import csv

import numpy as np
import torch
from torch.utils.data import DataLoader, RandomSampler, SequentialSampler, TensorDataset
from transformers import BertForSequenceClassification, BertTokenizer

MAX_LEN = 24

with open("reviews.csv", newline="") as file:
    rows = list(csv.DictReader(file))
sentences = [row["text"] for row in rows]
labels = torch.tensor([int(row["label"]) for row in rows])

tokenizer = BertTokenizer.from_pretrained("tiny-bert-reviews", do_lower_case=True)
input_ids, attention_masks = [], []
for sent in sentences:
    encoded_dict = tokenizer.encode_plus(
        sent,
        add_special_tokens=True,
        max_length=MAX_LEN,
        truncation=True,
        pad_to_max_length=True,
        return_attention_mask=True,
        return_tensors="pt",
    )
    input_ids.append(encoded_dict["input_ids"])
    attention_masks.append(encoded_dict["attention_mask"])
input_ids = torch.cat(input_ids, dim=0)
attention_masks = torch.cat(attention_masks, dim=0)
print("Original:", sentences[0])
print("Token IDs:", input_ids[0].tolist())

train_dataset = TensorDataset(input_ids[:16], attention_masks[:16], labels[:16])
val_dataset = TensorDataset(input_ids[16:], attention_masks[16:], labels[16:])
train_dataloader = DataLoader(train_dataset, sampler=RandomSampler(train_dataset), batch_size=16)
val_dataloader = DataLoader(val_dataset, sampler=SequentialSampler(val_dataset), batch_size=4)

model = BertForSequenceClassification.from_pretrained("tiny-bert-reviews")
optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4)
for epoch in range(4):
    model.train()
    for step, batch in enumerate(train_dataloader):
        b_input_ids, b_input_mask, b_labels = batch
        optimizer.zero_grad()
        outputs = model(b_input_ids, b_input_mask, labels=b_labels)
        loss, logits = outputs[:2]
        loss.backward()
        optimizer.step()
    print("epoch %d: loss %.5f" % (epoch + 1, loss.item()))

model.eval()
all_logits = []
for batch in val_dataloader:
    with torch.no_grad():
        outputs = model(batch[0], batch[1])
    all_logits.append(outputs[0].detach().cpu().numpy())
all_logits = np.concatenate(all_logits)
print("logits", np.round(all_logits.sum(axis=0), 5).tolist())
print("right %d of %d" % ((all_logits.argmax(1) == labels[16:].numpy()).sum(), len(all_logits)))
model_to_save = model.module if hasattr(model, "module") else model
model_to_save.save_pretrained("./model_save/")
tokenizer.save_pretrained("./model_save/")
print("vocabulary", len(BertTokenizer.from_pretrained("./model_save/")))
