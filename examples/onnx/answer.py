"""Label texts by an exported model, with onnxruntime and tokenizers alone: answer.py DIR TEXT…"""

import json
import sys
from pathlib import Path

import numpy as np
from onnxruntime import InferenceSession
from tokenizers import Tokenizer

if len(sys.argv) < 3:
    sys.exit(__doc__)
folder, texts = Path(sys.argv[1]), sys.argv[2:]
if missing := [name for name in ("export.json", "model.onnx") if not (folder / name).is_file()]:
    sys.exit(f"{folder} has no {missing[0]}: write it with bertolt export MODEL --out {folder}")
config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
card = json.loads((folder / "export.json").read_text(encoding="utf-8"))
if card["task"] != "text-classification":
    sys.exit(f"{folder} does {card['task']}, and only labels are read here: use bertolt predict")
tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
tokenizer.enable_truncation(card["max_length"])
tokenizer.enable_padding(pad_id=config["pad_token_id"])
rows = tokenizer.encode_batch(texts)
columns = {"input_ids": "ids", "attention_mask": "attention_mask", "token_type_ids": "type_ids"}
session = InferenceSession(folder / "model.onnx")
feed = {name: np.array([getattr(row, columns[name]) for row in rows]) for name in card["inputs"]}
shares = np.exp(session.run(["logits"], feed)[0])
for text, row in zip(texts, shares / shares.sum(1, keepdims=True), strict=True):
    print(f"{config['id2label'][str(row.argmax())]}\t{row.max():.6f}\t{text}")
