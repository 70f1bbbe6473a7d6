"""Early stopping by hand: the best weights copied, the whole model pickled, a new head (2020)."""

import copy
import csv

import torch
from torch.utils.data import DataLoader, TensorDataset, random_split
from transformers import AutoModelForSequenceClassification, BertTokenizerFast, set_seed

with open("reviews.csv", newline="") as file:
    rows = list(csv.DictReader(file))
tokenizer = BertTokenizerFast.from_pretrained("tiny-bert-reviews")
encoded = tokenizer.batch_encode_plus(
    [row["text"] for row in rows], max_length=24, pad_to_max_length=True, truncation=True
)
data = TensorDataset(
    torch.tensor(encoded["input_ids"]),
    torch.tensor(encoded["attention_mask"]),
    torch.tensor([int(row["label"]) for row in rows]),
)
model = AutoModelForSequenceClassification.from_pretrained(
    "tiny-bert-reviews", num_labels=3, ignore_mismatched_sizes=True
)
print("head", tuple(model.classifier.weight.shape), model.config.num_labels)
torch.manual_seed(0)
model.classifier = torch.nn.Linear(model.config.hidden_size, 3)
model = torch.nn.DataParallel(model)
set_seed(21)
train, valid = random_split(data, [16, 8])
loader = DataLoader(train, batch_size=4, shuffle=True)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
best, best_loss, patience = None, float("inf"), 0
for epoch in range(8):
    model.train()
    for ids, mask, labels in loader:
        model.zero_grad()
        loss = model(ids, attention_mask=mask, labels=labels)[0].mean()
        loss.backward()
        optimizer.step()
    model.eval()
    with torch.no_grad():
        ids, mask, labels = (torch.stack(column) for column in zip(*valid))
        loss = model(ids, attention_mask=mask, labels=labels)[0].mean().item()
    print(f"epoch {epoch} valid {loss:.4f}")
    if loss < best_loss:
        best, best_loss, patience = copy.deepcopy(model.state_dict()), loss, 0
    else:
        patience += 1
        if patience == 2:
            break
model.load_state_dict(best)
torch.save(model.module, "whole.pt")
whole = torch.load("whole.pt", weights_only=False)
copied = copy.deepcopy(model.module)
with torch.no_grad():
    for each in (model.module, whole, copied):
        print(f"loss {each(ids, attention_mask=mask, labels=labels)[0].item():.4f}")
