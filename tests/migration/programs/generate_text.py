"""A decoder that writes: greedy, beams, penalties, a cache or none (2020 to 2025)."""

import torch
from transformers import BertConfig, BertLMHeadModel, BertTokenizer

tokenizer = BertTokenizer.from_pretrained("tiny-bert")
config = BertConfig.from_pretrained("tiny-bert", is_decoder=True)
model = BertLMHeadModel.from_pretrained("tiny-bert", config=config)
model.eval()
inputs = tokenizer("the river runs", add_special_tokens=False, return_tensors="pt")
outputs = model(**inputs, labels=inputs["input_ids"])
print(f"loss {outputs.loss.item():.5f}")

shared = {"max_new_tokens": 8, "pad_token_id": tokenizer.pad_token_id, "eos_token_id": None}
for options in (
    {"do_sample": False},
    {"do_sample": False, "use_cache": False},
    {"num_beams": 3, "do_sample": False},
    {"num_beams": 4, "do_sample": False, "length_penalty": 0.5, "early_stopping": True},
    {"do_sample": False, "repetition_penalty": 1.5},
    {"do_sample": False, "no_repeat_ngram_size": 2},
    {"num_beams": 2, "num_return_sequences": 2, "do_sample": False},
):
    with torch.no_grad():
        generated = model.generate(**inputs, **shared, **options)
    print(generated.tolist())
    print(tokenizer.batch_decode(generated, skip_special_tokens=True))
