import numpy as np
import tokenizers

from adapters.architectures.profile import read_profile
from adapters.backbone import Backbone
from adapters.batch.rows import Row
from loadtests.proofs.backbones import TEXTS, sentence_encoder, tiny


def test_the_tiny_one_knows_every_word_that_proofs_ask_about(backbone):
    tokenizer = tokenizers.Tokenizer.from_file(str(backbone / "tokenizer.json"))
    tokens = [tokenizer.encode(text).tokens for text in TEXTS]
    assert all("[UNK]" not in words and words[0] == "[CLS]" and words[-1] == "[SEP]" for words in tokens)
    assert len({tuple(words) for words in tokens}) == len(TEXTS)


def test_a_seed_gives_the_same_backbone_again_and_another_seed_another(backbone, tmp_path):
    again, other = tiny(tmp_path / "again", seed=3), tiny(tmp_path / "other", seed=4)
    assert read_profile(again).digest == read_profile(backbone).digest
    assert read_profile(other).digest != read_profile(backbone).digest


def test_two_texts_end_in_states_that_differ(backbone):
    held = Backbone.load(backbone)
    rows = [Row((), None, None, np.array(ids)) for ids in ([2, 5, 6, 3], [2, 6, 5, 3])]
    one, other = held.run(rows, ["hidden_state"] * 2)
    assert (one - other).abs().max() > 0.1


def test_the_real_one_is_a_backbone_with_a_tokenizer():
    folder = sentence_encoder()
    assert read_profile(folder).geometry.layers == 6
    assert (folder / "tokenizer.json").is_file()
