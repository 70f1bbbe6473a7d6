"""A competition's regression: config.update, mean pooling, rates by part, smooth L1 (2022)."""

import csv

import numpy as np
import torch
import torch.nn as nn
from torch.utils.data import DataLoader, Dataset
from transformers import AutoConfig, AutoModel, AutoTokenizer, get_cosine_schedule_with_warmup


class CFG:
    model = "tiny-bert"
    encoder_lr = 2e-4
    decoder_lr = 2e-3
    weight_decay = 0.01
    batch_size = 4
    epochs = 3
    max_len = 40


CFG.tokenizer = AutoTokenizer.from_pretrained(CFG.model)


def prepare_input(cfg, first, second):
    inputs = cfg.tokenizer.encode_plus(
        first + cfg.tokenizer.sep_token + second,
        return_tensors=None,
        add_special_tokens=True,
        max_length=cfg.max_len,
        pad_to_max_length=True,
        truncation=True,
    )
    return {k: torch.tensor(v, dtype=torch.long) for k, v in inputs.items()}


class TrainDataset(Dataset):
    def __init__(self, cfg, rows):
        self.cfg, self.rows = cfg, rows

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, item):
        row = self.rows[item]
        inputs = prepare_input(self.cfg, row["sentence1"], row["sentence2"])
        return inputs, torch.tensor(float(row["score"]) / 5, dtype=torch.float)


def collate(inputs):
    mask_len = int(inputs["attention_mask"].sum(axis=1).max())
    return {k: v[:, :mask_len] for k, v in inputs.items()}


class MeanPooling(nn.Module):
    def forward(self, last_hidden_state, attention_mask):
        mask = attention_mask.unsqueeze(-1).expand(last_hidden_state.size()).float()
        return (last_hidden_state * mask).sum(1) / mask.sum(1).clamp(min=1e-9)


class CustomModel(nn.Module):
    def __init__(self, cfg):
        super().__init__()
        self.config = AutoConfig.from_pretrained(cfg.model, output_hidden_states=True)
        self.config.hidden_dropout_prob = 0.0
        self.config.update({"attention_probs_dropout_prob": 0.0})
        self.model = AutoModel.from_pretrained(cfg.model, config=self.config)
        self.pool = MeanPooling()
        torch.manual_seed(8)
        self.fc = nn.Linear(self.config.hidden_size, 1)
        self._init_weights(self.fc)

    def _init_weights(self, module):
        module.weight.data.normal_(mean=0.0, std=self.config.initializer_range)
        module.bias.data.zero_()

    def forward(self, inputs):
        outputs = self.model(**inputs)
        return self.fc(self.pool(outputs[0], inputs["attention_mask"]))


def get_optimizer_params(model):
    named = list(model.model.named_parameters())
    no_decay = ["bias", "LayerNorm.bias", "LayerNorm.weight"]
    return [
        {
            "params": [p for n, p in named if not any(nd in n for nd in no_decay)],
            "lr": CFG.encoder_lr,
            "weight_decay": CFG.weight_decay,
        },
        {
            "params": [p for n, p in named if any(nd in n for nd in no_decay)],
            "lr": CFG.encoder_lr,
            "weight_decay": 0.0,
        },
        {
            "params": [p for n, p in model.named_parameters() if "model" not in n],
            "lr": CFG.decoder_lr,
            "weight_decay": 0.0,
        },
    ]


with open("pairs.tsv", newline="") as file:
    rows = list(csv.DictReader(file, delimiter="\t"))
loader = DataLoader(TrainDataset(CFG, rows), batch_size=CFG.batch_size, shuffle=False)
model = CustomModel(CFG)
if hasattr(model.model, "gradient_checkpointing_enable"):
    model.model.gradient_checkpointing_enable()
optimizer = torch.optim.AdamW(get_optimizer_params(model), eps=1e-6, betas=(0.9, 0.999))
scheduler = get_cosine_schedule_with_warmup(
    optimizer, num_warmup_steps=0, num_training_steps=len(loader) * CFG.epochs, num_cycles=0.5
)
criterion = nn.SmoothL1Loss(reduction="mean")
for epoch in range(CFG.epochs):
    model.train()
    losses = []
    for inputs, labels in loader:
        inputs = collate(inputs)
        loss = criterion(model(inputs).view(-1), labels)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(model.parameters(), 1000)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        losses.append(loss.item())
    print(f"Epoch {epoch + 1} - avg_train_loss: {np.mean(losses):.4f} Grad: {norm:.4f}")
model.eval()
with torch.no_grad():
    preds = torch.cat([model(collate(inputs)).view(-1) for inputs, _ in loader])
print("predictions", np.round(preds.numpy(), 4).tolist())
