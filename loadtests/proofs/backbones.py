"""The backbones that proofs serve: a tiny BERT with seeded weights, where an answer costs next to nothing, and a real one."""

from pathlib import Path

import tokenizers
import torch
from tokenizers.models import WordPiece
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer
from tokenizers.processors import TemplateProcessing
from transformers import BertConfig, BertModel
from transformers.utils.logging import disable_progress_bar

from serving.demo import find_model

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
WORDS = ("one", "frozen", "model", "many", "voices", "each", "text", "here", "is", "short", "and", "known", "before")
TEXTS = ("one frozen model", "many voices", "each text here is short", "and known before")  # what proofs ask about
POSITIONS = 48


def tiny(folder: Path, seed: int) -> Path:
    """A BERT of two layers in a new folder, and a tokenizer of a few words; a row takes well under a millisecond."""
    torch.manual_seed(seed)
    config = BertConfig(
        vocab_size=len(SPECIAL) + len(WORDS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=48,
        max_position_embeddings=POSITIONS,
        initializer_range=0.3,  # far from the identity, so that what an adapter changes shows in the answer
    )
    disable_progress_bar()
    BertModel(config).save_pretrained(folder)
    vocabulary = {word: number for number, word in enumerate((*SPECIAL, *WORDS))}
    tokenizer = tokenizers.Tokenizer(WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106 - a word
    tokenizer.normalizer = BertNormalizer(lowercase=True)
    tokenizer.pre_tokenizer = BertPreTokenizer()
    tokenizer.post_processor = TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[(word, vocabulary[word]) for word in ("[CLS]", "[SEP]")],
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    return folder


def sentence_encoder() -> Path:
    """MiniLM of six layers, from the package that the demo serves; raises `NotReady` where it is not installed."""
    return find_model()
