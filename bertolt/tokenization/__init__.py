"""Text to token ids and back: `BertTokenizer`, a thin layer over the `tokenizers` library.

`tokenizer.py` holds the class, `rows.py` how one row is read, cut and counted, `batch_encoding.py`
what a call returns, `vocabulary.py` the WordPiece pipeline and its training, and `folder.py` the
files on disk and the hub. Nothing here imports torch before torch tensors are asked for.
"""

from bertolt.tokenization.batch_encoding import BatchEncoding, Truncated
from bertolt.tokenization.tokenizer import BertTokenizer

AutoTokenizer = BertTokenizer

__all__ = ["AutoTokenizer", "BatchEncoding", "BertTokenizer", "Truncated"]
