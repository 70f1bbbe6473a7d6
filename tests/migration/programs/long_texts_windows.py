"""Texts longer than the model: windows that overlap, logits averaged over each text (2021)."""

import torch
from transformers import AutoModelForSequenceClassification, AutoTokenizer

with open("plain.txt") as file:
    texts = [block.replace("\n", " ") for block in file.read().strip().split("\n\n")]
tokenizer = AutoTokenizer.from_pretrained("tiny-bert-topics")
model = AutoModelForSequenceClassification.from_pretrained("tiny-bert-topics").eval()
print("tokens", [len(tokenizer.tokenize(text)) for text in texts])
encoded = tokenizer(
    texts,
    max_length=40,
    stride=10,
    truncation=True,
    padding=True,
    return_overflowing_tokens=True,
    return_tensors="pt",
)
owner = encoded.pop("overflow_to_sample_mapping")
print("windows", torch.bincount(owner).tolist(), tuple(encoded["input_ids"].shape))
with torch.no_grad():
    logits = model(**encoded).logits
for number in range(len(texts)):
    mean = logits[owner == number].mean(0)
    name = model.config.id2label[mean.argmax().item()]
    print(number, name, [round(value, 4) for value in mean.softmax(-1).tolist()])
cut = tokenizer(texts, truncation=True, max_length=20, padding="max_length", return_tensors="pt")
with torch.no_grad():
    print(f"first tokens alone {model(**cut).logits.sum().item():.5f}")
middle = tokenizer(texts[0], add_special_tokens=False)["input_ids"]
ids = [tokenizer.cls_token_id, *middle[:8], *middle[-8:], tokenizer.sep_token_id]
with torch.no_grad():
    print(f"head and tail {model(torch.tensor([ids])).logits.sum().item():.5f}")
