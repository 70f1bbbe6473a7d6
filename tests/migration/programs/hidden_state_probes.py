"""What the layers know: hidden states, their gradients, attention maps, hooks (2020 to 2024)."""

import torch
from transformers import BertForSequenceClassification, BertTokenizer

tokenizer = BertTokenizer.from_pretrained("tiny-bert-reviews")
model = BertForSequenceClassification.from_pretrained(
    "tiny-bert-reviews", output_hidden_states=True, attn_implementation="eager"
)
model.eval()
text = ["a warm and funny film", "the story is dull and the cast looks tired"]
inputs = tokenizer(text, padding=True, return_tensors="pt")
outputs = model(**inputs, output_attentions=True, labels=torch.tensor([1, 0]))
print("states", len(outputs.hidden_states), "attentions", len(outputs.attentions))
for number, state in enumerate(outputs.hidden_states):
    state.retain_grad()
    real = state[inputs["attention_mask"].bool()]
    print(f"layer {number} {tuple(state.shape)} mean norm {real.norm(dim=-1).mean().item():.4f}")
for number, attention in enumerate(outputs.attentions):
    rows = attention[0, :, 0, : int(inputs["attention_mask"][0].sum())]
    print(f"attention {number} {tuple(attention.shape)} {rows.max(dim=-1).values.sum().item():.4f}")

score = outputs.logits[range(2), [1, 0]].sum()
score.backward()
for number, state in enumerate(outputs.hidden_states):
    saliency = (state.grad * state).sum(-1)[inputs["attention_mask"].bool()]
    print(f"saliency {number} {saliency.abs().sum().item():.4f}")
gradient = model.bert.embeddings.word_embeddings.weight.grad
print(f"words touched {(gradient.abs().sum(1) > 0).sum().item()}")

caught = []
handle = model.bert.encoder.layer[0].register_forward_hook(
    lambda module, args, output: caught.append(output[0] if isinstance(output, tuple) else output)
)
with torch.no_grad():
    again = model(**inputs)
handle.remove()
print(f"hook saw layer 1: {torch.allclose(caught[0], again.hidden_states[1], atol=1e-5)}")

embeddings = model.bert.embeddings(inputs["input_ids"])
print(f"embeddings {tuple(embeddings.shape)} {embeddings.detach()[0].sum().item():.4f}")
