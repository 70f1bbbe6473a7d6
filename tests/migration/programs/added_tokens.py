"""New words and marks in the vocabulary, with rows in the embeddings for them (2020 to 2024)."""

import torch
from transformers import AutoModelForMaskedLM, AutoTokenizer

tokenizer = AutoTokenizer.from_pretrained("tiny-bert")
model = AutoModelForMaskedLM.from_pretrained("tiny-bert")
text = "the [E1] lighthouse [/E1] has a teleprompter"
print("before", len(tokenizer), len(tokenizer.tokenize(text)))

added = tokenizer.add_tokens(["lighthouse", "teleprompter"])
added += tokenizer.add_special_tokens({"additional_special_tokens": ["[E1]", "[/E1]"]})
model.resize_token_embeddings(len(tokenizer))
print("added", added, "now", len(tokenizer), tokenizer.tokenize(text))
print("rows", model.get_input_embeddings().weight.shape[0], model.config.vocab_size)

with torch.no_grad():
    embeddings = model.get_input_embeddings().weight
    for token in tokenizer.convert_ids_to_tokens(range(len(tokenizer) - added, len(tokenizer))):
        embeddings[tokenizer.convert_tokens_to_ids(token)] = embeddings[5:50].mean(dim=0)
    model.get_output_embeddings().bias[-added:] = -1.0
tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
print("tied", tied)
inputs = tokenizer(text, return_tensors="pt")
labels = inputs["input_ids"].clone()
outputs = model(**inputs, labels=labels)
print(f"loss {outputs.loss.item():.5f}")
outputs.loss.backward()
gradient = model.get_input_embeddings().weight.grad
print(f"gradient of the new rows {gradient[-added:].abs().sum().item():.4f}")

model.save_pretrained("larger")
tokenizer.save_pretrained("larger")
model, tokenizer = (
    AutoModelForMaskedLM.from_pretrained("larger"),
    AutoTokenizer.from_pretrained("larger"),
)
again = tokenizer(text, return_tensors="pt")
with torch.no_grad():
    loss = model.eval()(**again, labels=again["input_ids"]).loss
print("same ids", again["input_ids"].tolist() == inputs["input_ids"].tolist(), f"{loss.item():.5f}")
print(
    tokenizer.decode(again["input_ids"][0]),
    "|",
    tokenizer.decode(again["input_ids"][0], skip_special_tokens=True),
)
