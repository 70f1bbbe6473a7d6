"""A Trainer whose subclass brings its own loader, optimizer and schedule (2021)."""

import csv

import torch
from torch.utils.data import DataLoader, SequentialSampler
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
    get_constant_schedule_with_warmup,
)


class OrderedTrainer(Trainer):
    def get_train_dataloader(self):
        return DataLoader(
            self.train_dataset,
            batch_size=self.args.train_batch_size,
            sampler=SequentialSampler(self.train_dataset),
            collate_fn=self.data_collator,
        )

    def create_optimizer(self):
        head = [p for n, p in self.model.named_parameters() if n.startswith("classifier")]
        rest = [p for n, p in self.model.named_parameters() if not n.startswith("classifier")]
        self.optimizer = torch.optim.AdamW(
            [{"params": rest}, {"params": head, "lr": self.args.learning_rate * 10}],
            lr=self.args.learning_rate,
        )
        return self.optimizer

    def create_scheduler(self, num_training_steps, optimizer=None):
        self.lr_scheduler = get_constant_schedule_with_warmup(optimizer or self.optimizer, 2)
        return self.lr_scheduler


with open("reviews.csv", newline="") as file:
    rows = list(csv.DictReader(file))
tokenizer = AutoTokenizer.from_pretrained("tiny-bert-reviews")
features = [{**tokenizer(row["text"]), "label": int(row["label"])} for row in rows]
trainer = OrderedTrainer(
    model=AutoModelForSequenceClassification.from_pretrained("tiny-bert-reviews"),
    args=TrainingArguments(
        "ordered",
        num_train_epochs=2,
        learning_rate=3e-4,
        per_device_train_batch_size=5,
        per_device_eval_batch_size=24,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
    ),
    train_dataset=features,
    eval_dataset=features,
    data_collator=DataCollatorWithPadding(tokenizer),
)
trainer.train()
for entry in trainer.state.log_history:
    if "loss" in entry:
        print(f"{entry['step']}: {entry['loss']:.4f} {entry['learning_rate']:.2e}")
sizes = [len(batch["labels"]) for batch in trainer.get_eval_dataloader()]
print("evaluated", sizes, f"{trainer.evaluate()['eval_loss']:.5f}")
