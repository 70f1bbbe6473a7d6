"""A loop by hand in mixed precision that sums the gradients of several batches (2023)."""

import csv

import torch
from torch.utils.data import DataLoader
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    get_cosine_schedule_with_warmup,
    set_seed,
)

set_seed(3)
accumulate = 3
with open("reviews.csv", newline="") as file:
    rows = list(csv.DictReader(file))
tokenizer = AutoTokenizer.from_pretrained("tiny-bert-reviews")
features = [{**tokenizer(row["text"]), "label": int(row["label"])} for row in rows]
loader = DataLoader(features, batch_size=4, collate_fn=DataCollatorWithPadding(tokenizer))

model = AutoModelForSequenceClassification.from_pretrained("tiny-bert-reviews")
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.01)
scheduler = get_cosine_schedule_with_warmup(optimizer, 1, 8)

model.train()
for epoch in range(4):
    running = 0.0
    for number, batch in enumerate(loader):
        with torch.autocast(device_type="cpu", dtype=torch.bfloat16):
            loss = model(**batch).loss / accumulate
        loss.backward()
        running += loss.item()
        if (number + 1) % accumulate == 0:
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad(set_to_none=True)
    print(f"epoch {epoch} loss {running * accumulate / len(loader):.3f}")
print("weights are", next(model.parameters()).dtype)
model.eval()
with torch.inference_mode(), torch.autocast("cpu", dtype=torch.bfloat16):
    logits = model(**batch).logits.float()
print(f"logits {logits.abs().sum().item():.2f}")
