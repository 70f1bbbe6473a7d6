"""A run that stops and goes on from its last checkpoint, and what it has saved (2021 to 2025)."""

import csv
import os

from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

with open("reviews.csv", newline="") as file:
    rows = list(csv.DictReader(file))
tokenizer = AutoTokenizer.from_pretrained("tiny-bert-reviews")
features = [{**tokenizer(row["text"]), "label": int(row["label"])} for row in rows]


class Halt(TrainerCallback):
    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step == 5:
            control.should_save = True
            control.should_training_stop = True


def make_trainer(folder, callbacks=None):
    return Trainer(
        model=AutoModelForSequenceClassification.from_pretrained("tiny-bert-reviews"),
        args=TrainingArguments(
            output_dir=folder,
            num_train_epochs=3,
            learning_rate=1e-3,
            per_device_train_batch_size=6,
            train_sampling_strategy="sequential",
            save_strategy="steps",
            save_steps=4,
            logging_steps=1,
            report_to="none",
        ),
        train_dataset=features,
        data_collator=DataCollatorWithPadding(tokenizer),
        processing_class=tokenizer,
        callbacks=callbacks,
    )


whole = make_trainer("whole")
whole.train()
make_trainer("parts", [Halt()]).train()
print("after the halt", sorted(name for name in os.listdir("parts") if "checkpoint" in name))
resumed = make_trainer("parts")
resumed.train(resume_from_checkpoint=True)
print("at the end", sorted(name for name in os.listdir("parts") if "checkpoint" in name))
losses = [
    {entry["step"]: entry["loss"] for entry in trainer.state.log_history if "loss" in entry}
    for trainer in (whole, resumed)
]
for step in (1, 5, 6, 9, 12):
    print(f"step {step} {losses[0][step]:.4f} {losses[1][step]:.4f}")
weights = [trainer.model.classifier.weight.abs().sum().item() for trainer in (whole, resumed)]
print(f"weights {weights[0]:.5f} {weights[1]:.5f}")
last = AutoModelForSequenceClassification.from_pretrained("parts/checkpoint-12")
print(f"last checkpoint {last.classifier.weight.abs().sum().item():.5f}")
