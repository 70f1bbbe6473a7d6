"""A pipeline over words: each token, and names put together (2020 to 2025)."""

from transformers import pipeline

text = "Anna Berg met Doctor Weiss near Hamburg."
tagger = pipeline("ner", model="tiny-bert-tags", tokenizer="tiny-bert-tags")
for entity in tagger(text):
    print(f"{entity['index']} {entity['word']} {entity['entity']} {entity['score']:.4f}", end=" ")
    print(f"{entity['start']} {entity['end']}")
tagger = pipeline("token-classification", "tiny-bert-tags", aggregation_strategy="simple")
for entity in tagger(text):
    print(f"{entity['entity_group']} {entity['word']!r} {entity['score']:.4f}", end=" ")
    print(text[entity["start"] : entity["end"]])
