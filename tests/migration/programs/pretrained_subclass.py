"""A head of one's own as a BertPreTrainedModel, opened by from_pretrained, in the Trainer (2021)."""

import csv

import torch
from torch import nn
from transformers import (
    BertConfig,
    BertModel,
    BertPreTrainedModel,
    BertTokenizer,
    DataCollatorWithPadding,
    Trainer,
    TrainingArguments,
)


class BertForReviewScore(BertPreTrainedModel):
    def __init__(self, config):
        super().__init__(config)
        self.num_labels = config.num_labels
        self.bert = BertModel(config)
        self.dropout = nn.Dropout(config.hidden_dropout_prob)
        self.hidden = nn.Linear(config.hidden_size, 16)
        self.classifier = nn.Linear(16, config.num_labels)
        self.post_init()

    def forward(self, input_ids=None, attention_mask=None, token_type_ids=None, labels=None):
        outputs = self.bert(input_ids, attention_mask=attention_mask, token_type_ids=token_type_ids)
        pooled = self.dropout(outputs[1])
        logits = self.classifier(torch.relu(self.hidden(pooled)))
        outputs = (logits,) + outputs[2:]
        if labels is not None:
            loss = nn.CrossEntropyLoss()(logits.view(-1, self.num_labels), labels.view(-1))
            outputs = (loss,) + outputs
        return outputs


config = BertConfig.from_pretrained("tiny-bert", num_labels=2, finetuning_task="reviews")
model = BertForReviewScore.from_pretrained("tiny-bert", config=config)
torch.manual_seed(4)
for layer in (model.hidden, model.classifier):
    nn.init.normal_(layer.weight, std=0.2)
    nn.init.zeros_(layer.bias)
print("base", model.base_model is model.bert, model.base_model_prefix, model.num_labels)

with open("reviews.csv", newline="") as file:
    rows = list(csv.DictReader(file))
tokenizer = BertTokenizer.from_pretrained("tiny-bert")
features = [{**tokenizer(row["text"]), "labels": int(row["label"])} for row in rows]
trainer = Trainer(
    model,
    TrainingArguments("subclass", max_steps=4, learning_rate=1e-3, per_device_train_batch_size=24),
    train_dataset=features,
    data_collator=DataCollatorWithPadding(tokenizer),
)
print(f"train {trainer.train().training_loss:.5f}")
trainer.save_model("subclass/final")
again = BertForReviewScore.from_pretrained("subclass/final").eval()
inputs = tokenizer("an honest little film", return_tensors="pt")
with torch.no_grad():
    print(
        f"logits {again(**inputs)[0].sum().item():.5f} {model.eval()(**inputs)[0].sum().item():.5f}"
    )
