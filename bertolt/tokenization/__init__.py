"""Text to token ids and back: `BertTokenizer`, a thin layer over the `tokenizers` library.

`tokens.py` holds tokens, ids and decoding, `encoder.py` encodes and pads texts, `older_calls.py`
has the calls of older programs, and `tokenizer.py` opens, trains and saves. Below them are
`rows.py` (how a row is read, cut and padded), `batch_encoding.py` (what comes out), `vocabulary.py`
(the WordPiece pipeline and its training), `folder.py` (the files on disk and the hub), `older.py`
(what to write instead of names that are not here) and `config_types.py` (what files may hold).
Nothing here imports torch before torch tensors are asked for.
"""

from bertolt.tokenization.batch_encoding import BatchEncoding, EncodedPair, EncodedWords, Truncated
from bertolt.tokenization.tokenizer import BertTokenizer

# There is one tokenizer, the fast one, and what it does is in its files, whatever the family.
AutoTokenizer = BertTokenizerFast = BertTokenizer
RobertaTokenizer = RobertaTokenizerFast = BertTokenizer
XLMRobertaTokenizer = XLMRobertaTokenizerFast = BertTokenizer
PreTrainedTokenizerBase = PreTrainedTokenizerFast = BertTokenizer

__all__ = [
    "AutoTokenizer",
    "BatchEncoding",
    "BertTokenizer",
    "BertTokenizerFast",
    "EncodedPair",
    "EncodedWords",
    "PreTrainedTokenizerBase",
    "PreTrainedTokenizerFast",
    "RobertaTokenizer",
    "RobertaTokenizerFast",
    "Truncated",
    "XLMRobertaTokenizer",
    "XLMRobertaTokenizerFast",
]
