"""One question about one text: the likeliest start and end, and their tokens (2020)."""

import torch
from transformers import BertForQuestionAnswering, BertTokenizer

tokenizer = BertTokenizer.from_pretrained("tiny-bert-questions")
model = BertForQuestionAnswering.from_pretrained("tiny-bert-questions")
question = "Who was the keeper?"
text = "Old Martin was the keeper of the lighthouse, and his daughter was a baker in town."

encoding = tokenizer(question, text, return_tensors="pt")
tokens = tokenizer.convert_ids_to_tokens(encoding["input_ids"][0])
start = encoding.char_to_token(text.index("Old"), sequence_index=1)
end = encoding.char_to_token(text.index("Martin") + 5, sequence_index=1)
print(tokens[start : end + 1])
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
model.train()
for step in range(4):
    loss = model(
        **encoding, start_positions=torch.tensor([start]), end_positions=torch.tensor([end])
    ).loss
    loss.backward()
    optimizer.step()
    optimizer.zero_grad()
    print(f"step {step} loss {loss.item():.5f}")

model.eval()
with torch.no_grad():
    outputs = model(encoding["input_ids"], token_type_ids=encoding["token_type_ids"])
start_scores, end_scores = outputs.start_logits, outputs.end_logits
answer_start = torch.argmax(start_scores)
answer_end = torch.argmax(end_scores)
print(
    f"start {answer_start.item()} {start_scores.max().item():.5f} {start_scores.sum().item():.4f}"
)
print(f"end {answer_end.item()} {end_scores.max().item():.5f} {end_scores.sum().item():.4f}")
first, last = sorted((answer_start.item(), answer_end.item()))
print("answer", tokenizer.convert_tokens_to_string(tokens[first : last + 1]))
