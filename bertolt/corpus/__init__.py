"""From plain text to token shards: a vocabulary, sentences, and Arrow files that are mapped.

`read.py` streams documents out of files, `sentences.py` splits them, `engine.py` lets many cores or
a cluster tokenize them, `prepare.py` is the run and `shards.py` what it leaves: `Corpus.open`.
"""
