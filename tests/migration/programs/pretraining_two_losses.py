"""Masked words and next sentences together, logits as the first two of a tuple (2019)."""

import torch
from transformers import BertForPreTraining, BertTokenizer

tokenizer = BertTokenizer.from_pretrained("tiny-bert")
model = BertForPreTraining.from_pretrained("tiny-bert")
with open("plain.txt") as file:
    text = [line.strip() for line in file if line.strip()]
first, second = text[0:12:2], text[1:12:2]
second = second[:3] + second[:2:-1]
inputs = tokenizer(first, second, return_tensors="pt", max_length=48, truncation=True, padding=True)
inputs["next_sentence_label"] = torch.LongTensor([[0, 0, 0, 1, 1, 1]]).T
inputs["labels"] = inputs.input_ids.detach().clone()
special = (inputs.input_ids == 101) | (inputs.input_ids < 5)
chosen = (torch.arange(inputs.input_ids.shape[1]) % 7 == 3) & ~special
inputs["labels"][~chosen] = -100
for i in range(inputs.input_ids.shape[0]):
    inputs.input_ids[i, torch.flatten(chosen[i].nonzero()).tolist()] = tokenizer.mask_token_id

optim = torch.optim.AdamW(model.parameters(), lr=1e-3)
model.train()
for epoch in range(3):
    optim.zero_grad()
    outputs = model(**inputs)
    outputs.loss.backward()
    optim.step()
    print(f"epoch {epoch} loss {outputs.loss.item():.5f}")

model.eval()
del inputs["labels"], inputs["next_sentence_label"]
with torch.no_grad():
    prediction_scores, seq_relationship_score = model(**inputs)[:2]
print(tuple(prediction_scores.shape), tuple(seq_relationship_score.shape))
print(f"words {prediction_scores[0, 1:5].sum().item():.4f}")
print(f"next {seq_relationship_score.softmax(-1)[:, 0].sum().item():.5f}")
