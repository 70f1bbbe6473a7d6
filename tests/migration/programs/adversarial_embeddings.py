"""Training against small changes of the embeddings, weights averaged, inputs as vectors (2021)."""

import csv

import torch
from transformers import BertForSequenceClassification, BertTokenizer


class FGM:
    def __init__(self, model):
        self.model, self.backup = model, {}

    def attack(self, epsilon=0.5, emb_name="word_embeddings"):
        for name, param in self.model.named_parameters():
            if param.requires_grad and emb_name in name:
                self.backup[name] = param.data.clone()
                norm = torch.norm(param.grad)
                if norm != 0:
                    param.data.add_(epsilon * param.grad / norm)

    def restore(self, emb_name="word_embeddings"):
        for name, param in self.model.named_parameters():
            if param.requires_grad and emb_name in name:
                param.data = self.backup[name]
        self.backup = {}


with open("reviews.csv", newline="") as file:
    rows = list(csv.DictReader(file))
tokenizer = BertTokenizer.from_pretrained("tiny-bert-reviews")
model = BertForSequenceClassification.from_pretrained("tiny-bert-reviews")
batch = tokenizer([row["text"] for row in rows], padding=True, return_tensors="pt")
batch["labels"] = torch.tensor([int(row["label"]) for row in rows])
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
averaged = torch.optim.swa_utils.AveragedModel(model, avg_fn=lambda a, p, n: 0.9 * a + 0.1 * p)
fgm = FGM(model)
model.train()
for step in range(4):
    loss = model(**batch)[0]
    loss.backward()
    fgm.attack()
    harder = model(**batch)[0]
    harder.backward()
    fgm.restore()
    optimizer.step()
    averaged.update_parameters(model)
    model.zero_grad()
    print(f"step {step} loss {loss.item():.5f} attacked {harder.item():.5f}")
model.eval(), averaged.eval()
with torch.no_grad():
    print(f"averaged {averaged(**batch).loss.item():.5f} last {model(**batch).loss.item():.5f}")

one = tokenizer(rows[0]["text"], return_tensors="pt")
embedded = model.get_input_embeddings()(one["input_ids"]).detach()
total = torch.zeros_like(embedded)
for part in torch.linspace(0.1, 1.0, 10):
    scaled = (embedded * part).requires_grad_()
    logits = model(inputs_embeds=scaled, attention_mask=one["attention_mask"]).logits
    total += torch.autograd.grad(logits[0, 1], scaled)[0] / 10
attribution = (total * embedded).sum(-1)[0]
print("attribution", [round(value, 4) for value in attribution.tolist()])
