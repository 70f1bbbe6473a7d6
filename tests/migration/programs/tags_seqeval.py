"""Names in sentences: labels aligned by word_ids, a Trainer, seqeval (2021 to 2025)."""

import numpy as np
from datasets import Dataset
from seqeval.metrics import f1_score, precision_score, recall_score
from transformers import (
    AutoModelForTokenClassification,
    AutoTokenizer,
    DataCollatorForTokenClassification,
    Trainer,
    TrainingArguments,
)

sentences = []
with open("tags.txt") as file:
    for block in file.read().strip().split("\n\n"):
        pairs = [line.split("\t") for line in block.split("\n")]
        sentences.append({"tokens": [p[0] for p in pairs], "ner_tags": [p[1] for p in pairs]})
label_list = ["O", "B-PER", "I-PER", "B-LOC", "I-LOC", "B-ORG", "I-ORG"]
id2label = dict(enumerate(label_list))
label2id = {label: number for number, label in id2label.items()}

tokenizer = AutoTokenizer.from_pretrained("tiny-bert-tags")
model = AutoModelForTokenClassification.from_pretrained(
    "tiny-bert-tags", num_labels=7, id2label=id2label, label2id=label2id
)


def tokenize_and_align_labels(examples):
    tokenized = tokenizer(examples["tokens"], truncation=True, is_split_into_words=True)
    all_labels = []
    for i, tags in enumerate(examples["ner_tags"]):
        previous, labels = None, []
        for word in tokenized.word_ids(batch_index=i):
            if word is None or word == previous:
                labels.append(-100)
            else:
                labels.append(label2id[tags[word]])
            previous = word
        all_labels.append(labels)
    tokenized["labels"] = all_labels
    return tokenized


dataset = Dataset.from_list(sentences)
tokenized = dataset.map(
    tokenize_and_align_labels, batched=True, remove_columns=dataset.column_names
)
print("tokens", sum(map(len, tokenized["input_ids"])))


def compute_metrics(p):
    predictions, labels = p
    predictions = np.argmax(predictions, axis=2)
    true = [[label_list[x] for x in row if x != -100] for row in labels]
    found = [
        [label_list[p] for p, x in zip(ps, row) if x != -100]
        for ps, row in zip(predictions, labels)
    ]
    return {
        "precision": precision_score(true, found),
        "recall": recall_score(true, found),
        "f1": f1_score(true, found),
    }


args = TrainingArguments(
    "tagger",
    learning_rate=3e-3,
    per_device_train_batch_size=8,
    per_device_eval_batch_size=8,
    num_train_epochs=12,
    weight_decay=0.01,
    eval_strategy="epoch",
    save_strategy="no",
    report_to="none",
)
trainer = Trainer(
    model,
    args,
    train_dataset=tokenized,
    eval_dataset=tokenized,
    data_collator=DataCollatorForTokenClassification(tokenizer),
    processing_class=tokenizer,
    compute_metrics=compute_metrics,
)
trainer.train()
for entry in trainer.state.log_history:
    if "eval_f1" in entry:
        print(f"{entry['epoch']:.0f}: loss {entry['eval_loss']:.4f}", end=" ")
        print(f"precision {entry['eval_precision']:.3f} recall {entry['eval_recall']:.3f}", end=" ")
        print(f"f1 {entry['eval_f1']:.3f}")
