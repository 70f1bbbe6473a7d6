"""Reviews in a loop by hand: weight decay groups, AdamW, a linear schedule, clipping (2020)."""

import csv
import random

import numpy as np
import torch
from torch.optim import AdamW
from torch.utils.data import DataLoader, SequentialSampler, TensorDataset
from transformers import (
    BertForSequenceClassification,
    BertTokenizer,
    get_linear_schedule_with_warmup,
)

seed_val = 17
random.seed(seed_val)
np.random.seed(seed_val)
torch.manual_seed(seed_val)

with open("reviews.csv", newline="") as file:
    rows = list(csv.DictReader(file))
tokenizer = BertTokenizer.from_pretrained("tiny-bert-reviews", do_lower_case=True)
encoded = tokenizer(
    [row["text"] for row in rows],
    padding="max_length",
    truncation=True,
    max_length=32,
    return_attention_mask=True,
    return_tensors="pt",
)
labels = torch.tensor([int(row["label"]) for row in rows])
dataset = TensorDataset(encoded["input_ids"], encoded["attention_mask"], labels)
dataloader = DataLoader(dataset, sampler=SequentialSampler(dataset), batch_size=8)

model = BertForSequenceClassification.from_pretrained(
    "tiny-bert-reviews", num_labels=2, output_attentions=False, output_hidden_states=False
)
device = torch.device("cpu")
model.to(device)

no_decay = ["bias", "LayerNorm.weight"]
groups = [
    {
        "params": [p for n, p in model.named_parameters() if not any(nd in n for nd in no_decay)],
        "weight_decay": 0.01,
    },
    {
        "params": [p for n, p in model.named_parameters() if any(nd in n for nd in no_decay)],
        "weight_decay": 0.0,
    },
]
optimizer = AdamW(groups, lr=1e-3, eps=1e-8)
epochs = 3
total_steps = len(dataloader) * epochs
scheduler = get_linear_schedule_with_warmup(
    optimizer, num_warmup_steps=2, num_training_steps=total_steps
)

for epoch in range(epochs):
    model.train()
    total_loss = 0
    for batch in dataloader:
        b_input_ids, b_input_mask, b_labels = (t.to(device) for t in batch)
        model.zero_grad()
        outputs = model(
            b_input_ids, token_type_ids=None, attention_mask=b_input_mask, labels=b_labels
        )
        loss = outputs.loss
        total_loss += loss.item()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
    print(f"epoch {epoch + 1} mean loss {total_loss / len(dataloader):.5f} last norm {norm:.4f}")
    print(f"learning rate {scheduler.get_last_lr()[0]:.3e}")

model.eval()
correct = 0
for batch in dataloader:
    with torch.no_grad():
        logits = model(batch[0], token_type_ids=None, attention_mask=batch[1]).logits
    correct += (logits.numpy().argmax(axis=1) == batch[2].numpy()).sum()
print(f"accuracy {correct / len(dataset):.4f}")
