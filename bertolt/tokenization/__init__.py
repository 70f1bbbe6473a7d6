"""Text to token ids and back: `BertTokenizer`, a thin layer over the `tokenizers` library.

`tokenizer.py` loads, trains, saves and encodes, `tokens.py` holds tokens, ids and decoding,
`rows.py` how a row is read, cut and padded, `batch_encoding.py` what comes out, `vocabulary.py` the
WordPiece pipeline and its training, `folder.py` the files on disk and the hub, `config_types.py`
what they may hold. Nothing here imports torch before torch tensors are asked for.
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
