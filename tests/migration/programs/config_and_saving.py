"""A model from a config, names of its classes, weights carried over, saved and opened (2020)."""

import json

import torch
from transformers import (
    AutoConfig,
    AutoModelForSequenceClassification,
    BertConfig,
    BertForSequenceClassification,
    BertModel,
)

config = BertConfig.from_pretrained(
    "tiny-bert-reviews", label2id={"no": 0, "yes": 1}, id2label={0: "no", 1: "yes"}
)
print(config.num_labels, config.id2label, config.label2id, config.model_type)
model = BertForSequenceClassification(config)
source = BertForSequenceClassification.from_pretrained("tiny-bert-reviews")
model.load_state_dict(source.state_dict())
print("parameters", model.num_parameters(), model.dtype, model.device.type, model.num_labels)
print("base", type(model.base_model).__name__, model.config.hidden_size)

state = {name.replace("module.", ""): tensor for name, tensor in model.state_dict().items()}
model.save_pretrained("copy", state_dict=state, safe_serialization=True)
with open("copy/config.json") as file:
    print(json.load(file)["architectures"], AutoConfig.from_pretrained("copy").id2label)
again = AutoModelForSequenceClassification.from_pretrained("copy").eval()
built = AutoModelForSequenceClassification.from_config(again.config)
built.load_state_dict(again.state_dict())
ids = torch.tensor([[2, 17, 30, 44, 3, 0], [2, 9, 3, 0, 0, 0]])
mask = (ids > 0).long()
with torch.no_grad():
    for candidate in (again, built.eval()):
        print(f"logits {candidate(ids, mask).logits.sum().item():.5f}")
    encoder = BertModel.from_pretrained("copy", add_pooling_layer=False).eval()
    print(f"encoder {encoder(ids, mask)[0][mask == 1].sum().item():.4f} {encoder.pooler}")
    returned = again(ids, mask, return_dict=False)
    print("tuple", isinstance(returned, tuple), len(returned))
half = BertModel.from_pretrained("copy", dtype=torch.bfloat16)
print("half", half.dtype, next(half.parameters()).dtype)
