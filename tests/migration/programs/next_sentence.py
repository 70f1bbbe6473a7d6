"""Does this sentence follow that one? Pairs of lines, a loop by hand, softmax (2021)."""

import torch
from transformers import BertForNextSentencePrediction, BertTokenizer

with open("plain.txt") as file:
    stories = [block.split("\n") for block in file.read().strip().split("\n\n")]
pairs = []
for number, story in enumerate(stories):
    other = stories[(number + 1) % len(stories)]
    for k in range(len(story) - 1):
        pairs.append((story[k], story[k + 1], 0) if k % 2 else (story[k], other[k], 1))

tokenizer = BertTokenizer.from_pretrained("tiny-bert")
model = BertForNextSentencePrediction.from_pretrained("tiny-bert")
inputs = tokenizer(
    [first for first, _, _ in pairs],
    [second for _, second, _ in pairs],
    return_tensors="pt",
    max_length=48,
    truncation=True,
    padding="max_length",
)
inputs["labels"] = torch.LongTensor([label for _, _, label in pairs])
print("ids", inputs.input_ids.sum().item(), "types", inputs["token_type_ids"].sum().item())

optimizer = torch.optim.Adam(model.parameters(), lr=2e-4)
model.train()
for step in range(5):
    optimizer.zero_grad()
    outputs = model(**inputs)
    outputs.loss.backward()
    optimizer.step()
    print(f"step {step} loss {outputs.loss.item():.5f}")

model.eval()
encoding = tokenizer(stories[0][0], stories[0][1], return_tensors="pt")
with torch.no_grad():
    outputs = model(**encoding, labels=torch.LongTensor([0]))
probabilities = torch.softmax(outputs.logits, dim=1)
print(f"follows {probabilities[0][0].item():.5f} loss {outputs.loss.item():.5f}")
