"""Whole words hidden: what the collator hides, and the loss on it in a loop by hand (2025)."""

import torch
from torch.utils.data import DataLoader
from transformers import (
    BertForMaskedLM,
    BertTokenizerFast,
    DataCollatorForLanguageModeling,
    set_seed,
)

set_seed(11)
tokenizer = BertTokenizerFast.from_pretrained("tiny-bert")
model = BertForMaskedLM.from_pretrained("tiny-bert")
with open("plain.txt") as file:
    lines = [line.strip() for line in file if line.strip()]
rows = [
    tokenizer(
        line,
        max_length=32,
        truncation=True,
        padding="max_length",
        return_offsets_mapping=True,
        return_special_tokens_mask=True,
    )
    for line in lines
]
words = [row.word_ids() for row in rows]

collator = DataCollatorForLanguageModeling(tokenizer, whole_word_mask=True, mlm_probability=0.3)
batch = collator([dict(row) for row in rows])
broken = hidden = 0
for ids, labels in zip(words, batch["labels"]):
    by_word = {}
    for place, word in enumerate(ids):
        if word is not None:
            by_word.setdefault(word, set()).add(labels[place].item() != -100)
    broken += sum(len(kinds) > 1 for kinds in by_word.values())
    hidden += sum(True in kinds for kinds in by_word.values())
total = sum(max(word for word in ids if word is not None) + 1 for ids in words)
print("words", total, "broken", broken, "some hidden", 0.1 < hidden / total < 0.5)
originals = torch.tensor([row["input_ids"] for row in rows])[:, : batch["labels"].shape[1]]
chosen = batch["labels"] != -100
print("labels are the originals", bool((originals[chosen] == batch["labels"][chosen]).all()))

everything = DataCollatorForLanguageModeling(
    tokenizer,
    whole_word_mask=True,
    mlm_probability=1.0,
    mask_replace_prob=1.0,
    random_replace_prob=0.0,
)
loader = DataLoader([dict(row) for row in rows], batch_size=5, collate_fn=everything)
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
for epoch in range(2):
    for batch in loader:
        loss = model(**batch).loss
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()
    print(f"epoch {epoch} loss {loss.item():.5f}")
