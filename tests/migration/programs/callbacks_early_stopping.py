"""Callbacks of one's own, early stopping, the best checkpoint at the end (2021 to 2024)."""

import csv

from datasets import Dataset
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    EarlyStoppingCallback,
    Trainer,
    TrainerCallback,
    TrainingArguments,
)

with open("reviews.csv", newline="") as file:
    rows = [{"text": r["text"], "label": int(r["label"])} for r in csv.DictReader(file)]
tokenizer = AutoTokenizer.from_pretrained("tiny-bert-reviews")
dataset = Dataset.from_list(rows).map(lambda b: tokenizer(b["text"]), batched=True)
train, held_out = dataset.select(range(16)), dataset.select(range(16, 24))


class Tally(TrainerCallback):
    def __init__(self):
        self.events = []

    def on_train_begin(self, args, state, control, **kwargs):
        self.events.append(f"begin {state.max_steps} {args.num_train_epochs:g}")

    def on_epoch_end(self, args, state, control, model=None, **kwargs):
        self.events.append(f"epoch {state.epoch:g} {model.config.hidden_size}")

    def on_evaluate(self, args, state, control, metrics=None, **kwargs):
        self.events.append(f"loss {metrics['eval_loss']:.4f}")

    def on_train_end(self, args, state, control, **kwargs):
        self.events.append(f"end {state.global_step}")


class StopAt(TrainerCallback):
    def __init__(self, step):
        self.step = step

    def on_step_end(self, args, state, control, **kwargs):
        if state.global_step >= self.step:
            control.should_training_stop = True
        return control


def make_trainer(name, callbacks):
    return Trainer(
        model=AutoModelForSequenceClassification.from_pretrained("tiny-bert-reviews"),
        args=TrainingArguments(
            name,
            num_train_epochs=20,
            learning_rate=2e-3,
            per_device_train_batch_size=16,
            eval_strategy="epoch",
            save_strategy="epoch",
            save_total_limit=2,
            load_best_model_at_end=True,
            metric_for_best_model="eval_loss",
            greater_is_better=False,
            report_to="none",
        ),
        train_dataset=train,
        eval_dataset=held_out,
        data_collator=DataCollatorWithPadding(tokenizer),
        callbacks=callbacks,
    )


tally = Tally()
trainer = make_trainer("early", [tally, EarlyStoppingCallback(early_stopping_patience=2)])
trainer.train()
for event in tally.events:
    print(event)
print(f"best {trainer.state.best_metric:.4f} now {trainer.evaluate()['eval_loss']:.4f}")

trainer = make_trainer("stopped", [Tally])
trainer.add_callback(StopAt(3))
print("stopped after", trainer.train().global_step)
