"""A network of one's own with BertModel inside: mean of the last layers, two heads (2020)."""

import csv

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset
from transformers import BertConfig, BertModel, BertTokenizer


class ReviewNet(nn.Module):
    def __init__(self, name, classes):
        super().__init__()
        config = BertConfig.from_pretrained(name)
        config.output_hidden_states = True
        self.bert = BertModel.from_pretrained(name, config=config)
        torch.manual_seed(1)
        self.drop = nn.Dropout(0.0)
        self.out = nn.Linear(self.bert.config.hidden_size * 2, classes)
        self.length = nn.Linear(self.bert.config.hidden_size, 1)

    def forward(self, ids, mask):
        outputs = self.bert(ids, attention_mask=mask)
        stacked = torch.stack(outputs.hidden_states[-2:]).mean(0)
        weights = mask.unsqueeze(-1).float()
        mean = (stacked * weights).sum(1) / weights.sum(1)
        joined = torch.cat([mean, outputs.pooler_output], dim=1)
        return self.out(self.drop(joined)), self.length(mean).squeeze(-1)


class Reviews(Dataset):
    def __init__(self, rows, tokenizer, max_len):
        self.rows, self.tokenizer, self.max_len = rows, tokenizer, max_len

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, item):
        row = self.rows[item]
        inputs = self.tokenizer(
            row["text"],
            None,
            add_special_tokens=True,
            max_length=self.max_len,
            padding="max_length",
            truncation=True,
            return_token_type_ids=True,
        )
        return {
            "ids": torch.tensor(inputs["input_ids"], dtype=torch.long),
            "mask": torch.tensor(inputs["attention_mask"], dtype=torch.long),
            "label": torch.tensor(int(row["label"])),
            "words": torch.tensor(len(row["text"].split()) / 10),
        }


with open("reviews.csv", newline="") as file:
    rows = list(csv.DictReader(file))
tokenizer = BertTokenizer.from_pretrained("tiny-bert")
loader = DataLoader(Reviews(rows, tokenizer, 24), batch_size=6, shuffle=False)
model = ReviewNet("tiny-bert", 2)
optimizer = torch.optim.AdamW(
    [
        {"params": model.bert.parameters(), "lr": 1e-4},
        {"params": [*model.out.parameters(), *model.length.parameters()], "lr": 1e-2},
    ]
)
for epoch in range(4):
    model.train()
    for batch in loader:
        optimizer.zero_grad()
        logits, length = model(batch["ids"], batch["mask"])
        first = nn.functional.cross_entropy(logits, batch["label"])
        second = nn.functional.mse_loss(length, batch["words"])
        (first + 0.5 * second).backward()
        optimizer.step()
    print(f"epoch {epoch} class {first.item():.5f} length {second.item():.5f}")
torch.save(model.state_dict(), "net.pt")
again = ReviewNet("tiny-bert", 2)
print(again.load_state_dict(torch.load("net.pt")))
model.eval(), again.eval()
with torch.no_grad():
    for net in (model, again):
        logits, length = net(batch["ids"], batch["mask"])
        print(f"sums {logits.sum().item():.4f} {length.sum().item():.4f}")
