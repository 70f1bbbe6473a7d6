"""Answers in long texts: windows with a stride, offsets, spans chosen from n best (2020 to 2024)."""

import collections
import json

import numpy as np
from datasets import Dataset
from transformers import (
    AutoModelForQuestionAnswering,
    AutoTokenizer,
    Trainer,
    TrainingArguments,
    default_data_collator,
)

examples = []
with open("questions.json") as file:
    for article in json.load(file)["data"]:
        for paragraph in article["paragraphs"]:
            for qa in paragraph["qas"]:
                examples.append(
                    {
                        "id": qa["id"],
                        "question": qa["question"],
                        "context": paragraph["context"],
                        "answer": qa["answers"][0]["text"],
                        "start": qa["answers"][0]["answer_start"],
                    }
                )
raw = Dataset.from_list(examples)
tokenizer = AutoTokenizer.from_pretrained("tiny-bert-questions")
max_length, doc_stride = 64, 24


def windows(rows):
    return tokenizer(
        [question.strip() for question in rows["question"]],
        rows["context"],
        truncation="only_second",
        max_length=max_length,
        stride=doc_stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
        padding="max_length",
    )


def prepare_train(rows):
    inputs = windows(rows)
    sample_of = inputs.pop("overflow_to_sample_mapping")
    starts, ends = [], []
    for i, offsets in enumerate(inputs.pop("offset_mapping")):
        sequence_ids = inputs.sequence_ids(i)
        cls_index = inputs["input_ids"][i].index(tokenizer.cls_token_id)
        first = sequence_ids.index(1)
        last = len(sequence_ids) - 1 - sequence_ids[::-1].index(1)
        begin = rows["start"][sample_of[i]]
        end = begin + len(rows["answer"][sample_of[i]])
        if offsets[first][0] > begin or offsets[last][1] < end:
            starts.append(cls_index)
            ends.append(cls_index)
            continue
        starts.append(max(k for k in range(first, last + 1) if offsets[k][0] <= begin))
        ends.append(min(k for k in range(first, last + 1) if offsets[k][1] >= end))
    inputs["start_positions"] = starts
    inputs["end_positions"] = ends
    return inputs


def prepare_validation(rows):
    inputs = windows(rows)
    sample_of = inputs.pop("overflow_to_sample_mapping")
    inputs["example_id"] = [rows["id"][k] for k in sample_of]
    for i in range(len(inputs["input_ids"])):
        ids = inputs.sequence_ids(i)
        inputs["offset_mapping"][i] = [
            o if ids[k] == 1 else None for k, o in enumerate(inputs["offset_mapping"][i])
        ]
    return inputs


train = raw.map(prepare_train, batched=True, remove_columns=raw.column_names)
validation = raw.map(prepare_validation, batched=True, remove_columns=raw.column_names)
print("windows", len(train), len(validation), "places", sum(train["start_positions"]))

trainer = Trainer(
    model=AutoModelForQuestionAnswering.from_pretrained("tiny-bert-questions"),
    args=TrainingArguments(
        output_dir="answers",
        learning_rate=2e-3,
        num_train_epochs=15,
        per_device_train_batch_size=64,
        per_device_eval_batch_size=4,
        lr_scheduler_type="constant",
        report_to="none",
    ),
    train_dataset=train,
    processing_class=tokenizer,
    data_collator=default_data_collator,
)
print(f"loss {trainer.train().training_loss:.4f}")
start_logits, end_logits = trainer.predict(
    validation.remove_columns(["example_id", "offset_mapping"])
).predictions
print("logits", start_logits.shape, end_logits.shape)

by_example = collections.defaultdict(list)
for k, feature in enumerate(validation):
    by_example[feature["example_id"]].append(k)
exact = 0
for example in examples:
    answers = []
    for k in by_example[example["id"]]:
        offsets = validation[k]["offset_mapping"]
        for s in np.argsort(start_logits[k])[-1:-6:-1].tolist():
            for e in np.argsort(end_logits[k])[-1:-6:-1].tolist():
                if offsets[s] is None or offsets[e] is None or e < s or e - s > 12:
                    continue
                text = example["context"][offsets[s][0] : offsets[e][1]]
                answers.append((float(start_logits[k][s] + end_logits[k][e]), text))
    score, text = max(answers) if answers else (0.0, "")
    exact += text == example["answer"]
    print(f"{example['id']} {score:.3f} {text!r}")
print(f"exact match {100 * exact / len(examples):.1f}")
