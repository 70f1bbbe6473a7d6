"""A pipeline over texts: one, several, all scores, pairs, another batch size (2020 to 2025)."""

from transformers import AutoModelForSequenceClassification, AutoTokenizer, pipeline

texts = ["a warm and funny film", "the story is dull and the cast looks tired", "not bad at all"]

classifier = pipeline("text-classification", model="tiny-bert-reviews")
for result in classifier(texts):
    print(f"{result['label']} {result['score']:.5f}")
print(f"one text: {classifier(texts[0])[0]['label']}")

model = AutoModelForSequenceClassification.from_pretrained("tiny-bert-reviews")
tokenizer = AutoTokenizer.from_pretrained("tiny-bert-reviews")
classifier = pipeline("sentiment-analysis", model=model, tokenizer=tokenizer, device=-1)
for scores in classifier(texts, top_k=None, batch_size=2):
    print(" ".join(f"{entry['label']} {entry['score']:.5f}" for entry in scores))
