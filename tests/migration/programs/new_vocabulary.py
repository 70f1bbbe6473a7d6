"""A vocabulary learnt from one's own texts by the tokenizer of another model (2021)."""

from transformers import AutoTokenizer

with open("plain.txt") as file:
    lines = [line.strip() for line in file if line.strip()]


def batches():
    for start in range(0, len(lines), 7):
        yield lines[start : start + 7]


old = AutoTokenizer.from_pretrained("tiny-bert")
new = old.train_new_from_iterator(batches(), 220)
print("sizes", len(old), len(new), new.vocab_size)
text = "The lighthouse keeper waters the flowers in the evening."
print("shorter", len(new.tokenize(text)) <= len(old.tokenize(text)))
print([word for word in ("the", "and", "zebra") if new.tokenize(word) == [word]])
print(new.convert_tokens_to_ids(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]))
print(new.decode(new(text)["input_ids"]))
new.save_pretrained("learnt")
again = AutoTokenizer.from_pretrained("learnt")
print("same", again(lines)["input_ids"] == new(lines)["input_ids"])
