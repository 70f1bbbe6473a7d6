"""Masked words in blocks of text: group_texts, a collator, a Trainer, perplexity (2021)."""

import math

import torch
from datasets import load_dataset
from transformers import (
    AutoModelForMaskedLM,
    AutoTokenizer,
    DataCollatorForLanguageModeling,
    Trainer,
    TrainingArguments,
)

tokenizer = AutoTokenizer.from_pretrained("tiny-bert")
model = AutoModelForMaskedLM.from_pretrained("tiny-bert")
raw = load_dataset("text", data_files={"train": "plain.txt"})
tokenized = raw.map(
    lambda examples: tokenizer(examples["text"], return_special_tokens_mask=True),
    batched=True,
    remove_columns=["text"],
)
block_size = 32


def group_texts(examples):
    concatenated = {k: sum(examples[k], []) for k in examples.keys()}
    total_length = (len(concatenated["input_ids"]) // block_size) * block_size
    return {
        k: [t[i : i + block_size] for i in range(0, total_length, block_size)]
        for k, t in concatenated.items()
    }


lm_datasets = tokenized.map(group_texts, batched=True)["train"]
print("blocks", len(lm_datasets))


class EverySixth(DataCollatorForLanguageModeling):
    """Hides every sixth piece of the vocabulary, so that two runs hide the same."""

    def torch_mask_tokens(self, inputs, special_tokens_mask=None, **kwargs):
        labels = inputs.clone()
        special = torch.isin(inputs, torch.tensor(self.tokenizer.all_special_ids))
        hidden = (inputs % 6 == 0) & ~special
        labels[~hidden] = -100
        inputs[hidden] = self.tokenizer.mask_token_id
        return inputs, labels


trainer = Trainer(
    model=model,
    args=TrainingArguments(
        output_dir="mlm",
        learning_rate=1e-3,
        weight_decay=0.01,
        num_train_epochs=3,
        per_device_train_batch_size=4,
        per_device_eval_batch_size=16,
        train_sampling_strategy="sequential",
        logging_steps=2,
        report_to="none",
    ),
    train_dataset=lm_datasets,
    eval_dataset=lm_datasets,
    data_collator=EverySixth(tokenizer, mlm_probability=0.15),
)
print(f"perplexity before {math.exp(trainer.evaluate()['eval_loss']):.2f}")
trainer.train()
print("losses", [round(entry["loss"], 3) for entry in trainer.state.log_history if "loss" in entry])
print(f"perplexity after {math.exp(trainer.evaluate()['eval_loss']):.2f}")
