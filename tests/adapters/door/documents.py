"""What AdapterHub's documents take for granted: a `bert-base-uncased` with its tokenizer, as small as it gets."""

import shutil
from pathlib import Path

from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from tests.adapters import builders

SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
WORDS = ["adapter", "##hub", "is", "awesome", "!", "bad", "the", "film", "a", "great", "boring", "plot", "music", "and"]


def tokenizer(words: list[str], folder: Path) -> PreTrainedTokenizerFast:
    """A WordPiece tokenizer saved in a folder, as transformers loads it."""
    vocabulary = {word: i for i, word in enumerate([*SPECIAL, *words])}
    made = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    names = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
    fast = PreTrainedTokenizerFast(tokenizer_object=made, **{f"{name}_token": text for name, text in names.items()})
    fast.save_pretrained(folder)
    return fast


def bert_base_uncased(folder: Path) -> Path:
    """The tiny BERT of the tests under the name that the documents use, with a tokenizer."""
    made = folder / "bert-base-uncased"
    shutil.copytree(builders.folder("bert"), made)
    tokenizer(WORDS, made)
    return made
