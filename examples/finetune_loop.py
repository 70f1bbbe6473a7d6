"""Fine-tune BERT by hand: finetune_loop.py [CSV with the columns text and label]."""

import sys

import torch
from datasets import load_dataset
from torch.utils.data import DataLoader

import bertolt
from bertolt.checkpoint.demo import demo_checkpoint
from bertolt.data import sample_data

path = sys.argv[1] if len(sys.argv) > 1 else str(sample_data.fetch("movie-sentences"))
rows = load_dataset("csv", data_files=path, split="train").class_encode_column("label")
parts = rows.train_test_split(test_size=0.2, seed=42, stratify_by_column="label")
tokenizer = bertolt.AutoTokenizer.from_pretrained(demo_checkpoint())
parts = parts.map(lambda batch: tokenizer(batch["text"], truncation=True), batched=True)
pack = bertolt.PackingCollator()
train = DataLoader(parts["train"], batch_size=32, shuffle=True, collate_fn=pack)
test = DataLoader(parts["test"], batch_size=32, collate_fn=pack)

model = bertolt.AutoModelForSequenceClassification.from_pretrained(
    demo_checkpoint(), num_labels=rows.features["label"].num_classes
).train()
steps = 3 * len(train)
optimizer = bertolt.AdamW(model.parameters(), lr=1e-4)
scheduler = bertolt.get_scheduler("linear", optimizer, steps // 10, steps)
for epoch in range(3):
    for batch in train:
        log = bertolt.train_step(model, batch, optimizer, scheduler)
    print(f"epoch {epoch + 1}  loss {log.loss:.4f}  {log.sequences / log.seconds:.0f} texts/s")

accuracy = bertolt.load_metric("accuracy")
model.eval()
with torch.inference_mode():
    for batch in test:
        accuracy.add_batch(predictions=model(batch).logits.argmax(-1), references=batch.labels)
print(f"accuracy {accuracy.compute()['accuracy']:.4f}")
