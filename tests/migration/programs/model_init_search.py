"""A small search: model_init makes a fresh model for each set of hyperparameters (2021)."""

import csv
import itertools

from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

with open("reviews.csv", newline="") as file:
    rows = list(csv.DictReader(file))
tokenizer = AutoTokenizer.from_pretrained("tiny-bert-reviews")
features = [{**tokenizer(row["text"]), "label": int(row["label"])} for row in rows]


def model_init(trial=None):
    return AutoModelForSequenceClassification.from_pretrained("tiny-bert-reviews")


best = None
for rate, decay in itertools.product((2e-4, 2e-3), (0.0, 0.1)):
    trainer = Trainer(
        model_init=model_init,
        args=TrainingArguments(
            output_dir="search",
            learning_rate=rate,
            weight_decay=decay,
            num_train_epochs=4,
            per_device_train_batch_size=16,
            save_strategy="no",
            report_to="none",
            seed=13,
        ),
        train_dataset=features[:16],
        eval_dataset=features[16:],
        data_collator=DataCollatorWithPadding(tokenizer),
    )
    trainer.train()
    loss = trainer.evaluate()["eval_loss"]
    print(f"rate {rate:g} decay {decay:g} loss {loss:.5f}")
    if best is None or loss < best[0]:
        best = (loss, rate, decay)
again = trainer.train().training_loss
print(f"best {best[1]:g} {best[2]:g}; trained anew {again:.5f}")
