"""Text to token ids and back: `BertTokenizer`, a thin layer over the `tokenizers` library.

`tokens.py` holds tokens, ids and decoding, `encoder.py` encodes and pads texts, and `tokenizer.py`
opens, trains and saves. Below them are `rows.py` (how a row is read, cut and padded),
`batch_encoding.py` (what comes out), `vocabulary.py` (the WordPiece pipeline and its training),
`folder.py` (the files on disk and the hub) and `config_types.py` (what those may hold). Nothing
here imports torch before torch tensors are asked for.
"""

from bertolt.tokenization.batch_encoding import BatchEncoding, EncodedPair, EncodedWords, Truncated
from bertolt.tokenization.tokenizer import BertTokenizer

AutoTokenizer = BertTokenizer

__all__ = [
    "AutoTokenizer",
    "BatchEncoding",
    "BertTokenizer",
    "EncodedPair",
    "EncodedWords",
    "Truncated",
]
