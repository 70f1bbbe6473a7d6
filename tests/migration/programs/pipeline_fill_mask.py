"""A pipeline that fills a gap, from all words or from some (2020 to 2025)."""

from transformers import pipeline

unmasker = pipeline("fill-mask", model="tiny-bert", top_k=3)
for guess in unmasker("the river runs through the [MASK] to the sea."):
    print(f"{guess['token_str']} {guess['token']} {guess['score']:.5f} {guess['sequence']}")
mask = unmasker.tokenizer.mask_token
for guess in unmasker(f"a {mask} lies in the harbour", targets=["ship", "bell"]):
    print(f"{guess['token_str']} {guess['score']:.3e}")
