"""How alike two sentences are: one output, mean squared error, Pearson and Spearman (2021)."""

import numpy as np
from datasets import load_dataset
from scipy.stats import pearsonr, spearmanr
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)

dataset = load_dataset("csv", data_files="pairs.tsv", delimiter="\t", split="train")
dataset = dataset.rename_column("score", "label")
tokenizer = AutoTokenizer.from_pretrained("tiny-bert-score")
dataset = dataset.map(
    lambda batch: tokenizer(batch["sentence1"], batch["sentence2"], truncation=True), batched=True
)


def compute_metrics(eval_pred):
    predictions, labels = eval_pred
    predictions = np.squeeze(predictions)
    return {
        "pearson": pearsonr(predictions, labels)[0],
        "spearmanr": spearmanr(predictions, labels)[0],
        "mse": ((predictions - labels) ** 2).mean().item(),
    }


model = AutoModelForSequenceClassification.from_pretrained("tiny-bert-score", num_labels=1)
trainer = Trainer(
    model=model,
    args=TrainingArguments(
        output_dir="stsb",
        learning_rate=2e-3,
        num_train_epochs=8,
        per_device_train_batch_size=12,
        eval_strategy="epoch",
        logging_strategy="epoch",
        report_to="none",
    ),
    train_dataset=dataset,
    eval_dataset=dataset,
    data_collator=DataCollatorWithPadding(tokenizer),
    compute_metrics=compute_metrics,
)
trainer.train()
for entry in trainer.state.log_history:
    if "eval_pearson" in entry:
        print(f"{entry['epoch']:.0f}: mse {entry['eval_mse']:.4f}", end=" ")
        print(f"pearson {entry['eval_pearson']:.4f} spearman {entry['eval_spearmanr']:.4f}")
