"""A smaller student learns from a teacher's logits in a Trainer subclass (2021)."""

import csv

import torch
import torch.nn.functional as F
from transformers import (
    AutoModelForSequenceClassification,
    AutoTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)


class DistillationTrainingArguments(TrainingArguments):
    def __init__(self, *args, alpha=0.5, temperature=2.0, **kwargs):
        super().__init__(*args, **kwargs)
        self.alpha = alpha
        self.temperature = temperature


class DistillationTrainer(Trainer):
    def __init__(self, *args, teacher_model=None, **kwargs):
        super().__init__(*args, **kwargs)
        self.teacher = teacher_model
        self._move_model_to_device(self.teacher, self.model.device)
        self.teacher.eval()

    def compute_loss(self, model, inputs, return_outputs=False, **kwargs):
        outputs_student = model(**inputs)
        student_loss = outputs_student.loss
        with torch.no_grad():
            outputs_teacher = self.teacher(**inputs)
        t = self.args.temperature
        distilled = F.kl_div(
            F.log_softmax(outputs_student.logits / t, dim=-1),
            F.softmax(outputs_teacher.logits / t, dim=-1),
            reduction="batchmean",
        ) * (t**2)
        loss = self.args.alpha * student_loss + (1.0 - self.args.alpha) * distilled
        return (loss, outputs_student) if return_outputs else loss


with open("reviews.csv", newline="") as file:
    rows = list(csv.DictReader(file))
tokenizer = AutoTokenizer.from_pretrained("tiny-bert-reviews")
features = [{**tokenizer(row["text"]), "label": int(row["label"])} for row in rows]
teacher = AutoModelForSequenceClassification.from_pretrained("tiny-bert-reviews")
student = AutoModelForSequenceClassification.from_pretrained(
    "tiny-bert-reviews", num_hidden_layers=1
)
print("layers", len(teacher.bert.encoder.layer), len(student.bert.encoder.layer))
trainer = DistillationTrainer(
    student,
    DistillationTrainingArguments(
        "distilled",
        max_steps=5,
        learning_rate=2e-3,
        per_device_train_batch_size=24,
        per_device_eval_batch_size=24,
        alpha=0.3,
        temperature=3.0,
        report_to="none",
    ),
    teacher_model=teacher,
    train_dataset=features,
    eval_dataset=features,
    data_collator=DataCollatorWithPadding(tokenizer),
)
print(f"before {trainer.evaluate()['eval_loss']:.5f}")
print(f"train {trainer.train().training_loss:.5f}")
print(f"after {trainer.evaluate()['eval_loss']:.5f}")
