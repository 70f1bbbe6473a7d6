"""Label smoothing in a Trainer over classes and over tags, against overconfidence (2021)."""

import csv

from transformers import (
    AutoModelForSequenceClassification,
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

with open("reviews.csv", newline="") as file:
    rows = list(csv.DictReader(file))
tokenizer = AutoTokenizer.from_pretrained("tiny-bert-reviews")
reviews = [{**tokenizer(row["text"]), "label": int(row["label"])} for row in rows]
tagged = []
with open("tags.txt") as file:
    for block in file.read().strip().split("\n\n"):
        words = [line.split("\t")[0] for line in block.split("\n")]
        encoded = tokenizer(words, is_split_into_words=True)
        labels = [-100 if word is None else word % 7 for word in encoded.word_ids()]
        tagged.append({**encoded, "labels": labels})

for kind, name, data, collator in (
    (AutoModelForSequenceClassification, "tiny-bert-reviews", reviews, DataCollatorWithPadding),
    (AutoModelForTokenClassification, "tiny-bert-tags", tagged, DataCollatorForTokenClassification),
):
    for factor in (0.0, 0.2):
        trainer = Trainer(
            model=kind.from_pretrained(name),
            args=TrainingArguments(
                output_dir="smooth",
                label_smoothing_factor=factor,
                max_steps=4,
                learning_rate=1e-3,
                per_device_train_batch_size=24,
                per_device_eval_batch_size=24,
                save_strategy="no",
                report_to="none",
            ),
            train_dataset=data,
            eval_dataset=data,
            data_collator=collator(tokenizer),
        )
        train = trainer.train().training_loss
        print(f"{name} {factor} train {train:.5f} eval {trainer.evaluate()['eval_loss']:.5f}")
