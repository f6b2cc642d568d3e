"""Makes the language velm: the samples' lines in letters of its own, a vocabulary for them, and a language adapter.

velm is English spelled anew: every letter stands for another one, vowels for vowels. To the backbone it is noise. What
is learned comes from parallel text, the learned lines of all samples and a dictionary of frequent words, never from a
held-out line: the states of `lang-velm + sentiment ~ velm` on the respelled text are drawn to those of `sentiment` on
the plain text, word by word and in every layer, and so are the answers. The backbone and `sentiment` stay as they are; the matrix, the
language adapter and its invertible part learn, through the passes that serve them. No label is read.
"""

import random
import re
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import torch
from tokenizers import Encoding, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from torch import Tensor
from torch.nn import functional

from adapters.backbone import Backbone
from adapters.batch.rows import Row
from adapters.embeddings import MATRIX, TOKENIZER, TokenEmbedding
from adapters.formats import native
from adapters.formats.check import check
from adapters.manifest import EmbeddingSpec, Manifest, Provenance
from adapters.requires import Requires
from adapters.methods.fold import fitting_of, fold
from adapters.methods.presets import parts_of
from adapters.methods.table import METHODS
from adapters.passes import answer, side_by_side
from adapters.training import Example, read_examples
from adapters.vocabulary import backbone_matrix, new_matrix
from adapters.weights import Adapter, Package
from serving.demo import HELD_OUT, find_model

NAME, TASK, SHOWN = "velm", "sentiment", ("sentiment", "topic")  # what is learned under, and what is shown with
METHOD = "seq_bn_inv"
LETTERS = ("aeiouy", "bcdfghjklmnpqrstvwxz")  # a letter stays within its group
SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
TOKENS = 2800  # of the vocabulary
WORDS = 8000  # of the dictionary
EPOCHS, SENTENCES = 6, 16  # sentences of a batch, each batch with its share of the dictionary
ANSWERS = 0.1  # weight of the head's answers beside the states
RATES = (1e-3, 5e-3)  # of the adapter, and of the matrix
WARM_UP, COOL_DOWN = 0.1, 0.5  # shares of the steps


@cache
def spelling(seed: str) -> dict[int, str]:
    """What each letter is written as, for `str.translate`; none as itself, and capitals as capitals."""
    draw = random.Random(seed)
    table: dict[str, str] = {}
    for group in LETTERS:
        drawn = draw.sample(group, len(group))
        while any(one == other for one, other in zip(group, drawn, strict=True)):
            drawn = draw.sample(group, len(group))
        table |= dict(zip(group, drawn, strict=True))
        table |= dict(zip(group.upper(), "".join(drawn).upper(), strict=True))
    return str.maketrans(table)


def spell(text: str) -> str:
    """A text in velm; what is no letter of English stays."""
    return text.translate(spelling(NAME))


def learned_texts(folder: Path) -> list[str]:
    """Every sentence that some sample learns from, once."""
    lines = [line for name in SHOWN for line in read_examples(folder / f"{name}.tsv", "classification")]
    lines += read_examples(folder / "tagger.jsonl", "tagging")
    return list(dict.fromkeys(line.text for line in lines))


def dictionary(tokenizer: Tokenizer, sentences: Sequence[str]) -> list[str]:
    """The most frequent words of the backbone (its ids are in that order), without those the sentences repeat."""
    tokens = sorted(tokenizer.get_vocab().items(), key=lambda item: item[1])
    words = [token for token, _ in tokens if token.isascii() and token.isalpha() and len(token) > 1]
    seen = Counter(word for text in sentences for word in re.findall("[a-z]+", text.lower()))
    return [word for word in words[:WORDS] if seen[word] < 2]


def learn_tokens(sentences: Sequence[str], words: Sequence[str]) -> Tokenizer:
    """A WordPiece tokenizer like the backbone's own, of these sentences and words in velm."""
    texts = [spell(text) for text in (*sentences, *words)]
    made = _like_bert({token: number for number, token in enumerate(SPECIAL)})
    letters = sorted(set().union(*(made.normalizer.normalize_str(text) for text in texts)) - {" "})
    # The trainer numbers letters as its hash maps have them, and breaks ties by number: they are numbered for it.
    numbered = [*SPECIAL, *letters, *(f"##{letter}" for letter in letters if letter.isalnum())]
    trainer = trainers.WordPieceTrainer(vocab_size=TOKENS, special_tokens=numbered, show_progress=False)
    made.train_from_iterator(texts, trainer)
    return _like_bert(made.get_vocab())


def _like_bert(vocabulary: dict[str, int]) -> Tokenizer:
    made = Tokenizer(models.WordPiece(vocabulary, unk_token=SPECIAL[1]))
    made.normalizer = normalizers.BertNormalizer(lowercase=True)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    made.add_special_tokens(list(SPECIAL))
    ends = [(token, vocabulary[token]) for token in ("[CLS]", "[SEP]")]
    made.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    return made


@dataclass(frozen=True, eq=False)
class Language:
    """What is learned: the matrix [tokens, width] of a vocabulary, and the tensors of an adapter."""

    backbone: Backbone
    tokenizer: Tokenizer
    matrix: Tensor
    tensors: Mapping[str, Tensor]

    @classmethod
    def begin(cls, backbone: Backbone, model: Path, tokenizer: Tokenizer, reference: Tokenizer) -> "Language":
        """As AdapterHub begins one: rows of tokens that the backbone knows are copied, all else is drawn."""
        geometry, fitting = backbone.profile.geometry, fitting_of(backbone.profile)
        known = backbone_matrix(model, geometry)
        matrix = new_matrix(tokenizer.get_vocab(), geometry.embedding_size, reference.get_vocab(), known, seed=0)
        draw = torch.Generator().manual_seed(0)
        tensors: dict[str, Tensor] = {}
        for part in parts_of(METHOD, fitting):
            tensors |= METHODS[part.method].initialise(part.config, fitting, draw)
        held = {name: tensor.requires_grad_() for name, tensor in tensors.items()}
        return cls(backbone, tokenizer, matrix.requires_grad_(), held)

    @cached_property
    def requires(self) -> Requires:
        """The backbone, and this vocabulary."""
        geometry = self.backbone.profile.geometry
        return Requires(geometry.model_type, geometry.hidden_size, geometry.layers, geometry.heads, NAME)

    @property
    def embedding(self) -> TokenEmbedding:
        """The vocabulary as rows use it, with the gradients of its matrix."""
        return TokenEmbedding(self._vocabulary, self.matrix, None)

    @property
    def adapter(self) -> Adapter:
        """The language adapter folded, with the gradients of its tensors."""
        return fold(Package(self._adapter, self.tensors), self.backbone.profile, torch.float32)

    def packages(self) -> dict[str, Package]:
        """The native packages by name, in half precision."""
        text = torch.frombuffer(bytearray(self.tokenizer.to_str().encode()), dtype=torch.uint8)
        vocabulary = {MATRIX: self.matrix.detach().half(), TOKENIZER: text}
        tensors = {name: tensor.detach().half() for name, tensor in self.tensors.items()}
        return {NAME: Package(self._vocabulary, vocabulary), f"lang-{NAME}": Package(self._adapter, tensors)}

    @cached_property
    def _adapter(self) -> Manifest:
        parts = parts_of(METHOD, fitting_of(self.backbone.profile))
        return Manifest("adapter", self.requires, parts, None, provenance=Provenance("chorus", "1", METHOD))

    @cached_property
    def _vocabulary(self) -> Manifest:
        rows, width = self.matrix.shape
        made_for = Requires(*list(vars(self.requires).values())[:4])
        spec = EmbeddingSpec(rows, width, tokenizer=True)
        return Manifest("embedding", made_for, (), None, embedding=spec, provenance=Provenance("chorus", "1", NAME))


@dataclass(frozen=True, eq=False)
class Reading:
    """What a stack makes of a text: the mean state of each word [words, layers, hidden] and both ends, and an answer."""

    words: Tensor
    answer: Tensor


class Lesson:
    """Plain texts, read by the task adapter alone, and the same in velm, read by the language adapter under it."""

    def __init__(self, language: Language, plain: Tokenizer, task: Adapter) -> None:
        self._language, self._plain, self._task = language, plain, task
        self._known: dict[str, Reading] = {}  # plain texts, whose reading never changes
        learned = zip((list(language.tensors.values()), [language.matrix]), RATES, strict=True)
        self._optimizer = torch.optim.Adam([{"params": group, "lr": rate} for group, rate in learned])

    def learn(self, sentences: Sequence[str], words: Sequence[str]) -> Iterator[float]:
        """The mean loss of each epoch."""
        steps = EPOCHS * -(-len(sentences) // SENTENCES)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            self._optimizer, lambda step: min((step + 1) / (steps * WARM_UP), 1.0, (steps - step) / (steps * COOL_DOWN))
        )
        for epoch in range(EPOCHS):
            losses = []
            for batch in _batches(sentences, words, random.Random(epoch)):
                loss = self._loss(batch)
                self._optimizer.zero_grad()
                torch.autograd.backward(loss)
                self._optimizer.step()
                schedule.step()
                losses.append(float(loss.detach()))
            yield sum(losses) / len(losses)

    def _loss(self, texts: Sequence[str]) -> Tensor:
        """How far the readings are apart: of states the squared distance over the squared length, of answers KL."""
        language = self._language
        new = [text for text in texts if text not in self._known]
        if new:
            with torch.no_grad():
                found = read(language.backbone, [self._task], None, self._plain, new)
            self._known |= dict(zip(new, found, strict=True))
        stack = [language.adapter, self._task]
        found = read(language.backbone, stack, language.embedding, language.tokenizer, [spell(text) for text in texts])
        wanted = [self._known[text] for text in texts]
        x, y = (torch.cat([one.words for one in side]) for side in (found, wanted))
        far = ((x - y).square().sum(-1) / y.square().sum(-1)).mean()
        said, right = (torch.stack([one.answer for one in side]).log_softmax(-1) for side in (found, wanted))
        return far + ANSWERS * functional.kl_div(said, right, log_target=True, reduction="batchmean")


def read(
    backbone: Backbone,
    stack: Sequence[Adapter],
    embedding: TokenEmbedding | None,
    tokenizer: Tokenizer,
    texts: Sequence[str],
) -> list[Reading]:
    """Every text, in one pass, with the head of the topmost adapter."""
    members = tuple(side_by_side(stack, backbone.device))
    encodings = tokenizer.encode_batch(list(texts))
    rows = [Row(members, members[-1], embedding, np.array(encoding.ids)) for encoding in encodings]
    found = answer(backbone, rows, layers=True)
    states = (torch.stack(layers, dim=1) for layers in zip(*found.states, strict=True))
    words = [_words(state, encoding) for state, encoding in zip(states, encodings, strict=True)]
    return [Reading(*pair) for pair in zip(words, found.logits, strict=True)]


def _words(states: Tensor, encoding: Encoding) -> Tensor:
    """Means [words, layers, hidden] of the states [tokens, layers, hidden] of each word."""
    named = [-1 if word is None else word + 1 for word in encoding.word_ids]  # text words are 1, 2, ...
    last = max(named) + 1
    places = torch.tensor([0 if at == 0 else last if word < 0 else word for at, word in enumerate(named)])
    sums = torch.zeros(last + 1, *states.shape[1:]).index_add(0, places, states)
    return sums / places.bincount(minlength=last + 1)[:, None, None]


def _batches(sentences: Sequence[str], words: Sequence[str], draw: random.Random) -> Iterator[list[str]]:
    """All sentences in a new order, and all words of the dictionary spread over their batches."""
    order, more = draw.sample(sentences, len(sentences)), draw.sample(words, len(words))
    count = -(-len(order) // SENTENCES)
    for at in range(count):
        yield order[at::count] + more[at::count]


def make(lines: Path, out: Path) -> None:
    """Learn the language from lines and the package of its task in `out`, and write it to a folder there."""
    model = find_model()
    backbone, plain = Backbone.load(model), Tokenizer.from_file(str(model / "tokenizer.json"))
    plain.no_padding()
    sentences = learned_texts(lines)
    words = dictionary(plain, sentences)
    language = Language.begin(backbone, model, learn_tokens(sentences, words), plain)
    tasks = {name: fold(native.read(out / f"{name}.safetensors"), backbone.profile, torch.float32) for name in SHOWN}
    for number, loss in enumerate(Lesson(language, plain, tasks[TASK]).learn(sentences, words), 1):
        print(f"{NAME}: loss {loss:.4f} in epoch {number} of {EPOCHS}", file=sys.stderr)
    folder = out / NAME
    folder.mkdir(parents=True, exist_ok=True)
    for name, package in language.packages().items():
        check(package, backbone.profile)
        (folder / f"{name}.safetensors").write_bytes(native.write(package))
    for name, task in tasks.items():
        plainly = read_examples(lines / f"{name}{HELD_OUT}", "classification")
        held_out = [Example(spell(line.text), line.label) for line in plainly]
        text = "".join(f"{line.text}\t{line.label}\n" for line in held_out)
        (folder / f"{name}{HELD_OUT}").write_text(text, encoding="utf-8")
        right = accuracy(backbone, [language.adapter, task], language.embedding, language.tokenizer, held_out)
        alone = accuracy(backbone, [task], None, plain, held_out)
        print(
            f"lang-{NAME}+{name}~{NAME}  accuracy {right:.3f} on {len(held_out)} held out ({name} alone: {alone:.3f})"
        )


def accuracy(
    backbone: Backbone,
    stack: Sequence[Adapter],
    embedding: TokenEmbedding | None,
    tokenizer: Tokenizer,
    lines: Sequence[Example],
) -> float:
    """The share of lines that the head of a stack answers rightly."""
    head = stack[-1].head
    assert head is not None
    with torch.no_grad():
        found = read(backbone, stack, embedding, tokenizer, [line.text for line in lines])
    right = [head.labels[int(one.answer.argmax())] == line.label for one, line in zip(found, lines, strict=True)]
    return sum(right) / len(right)


if __name__ == "__main__":
    make(Path(sys.argv[1]), Path(sys.argv[2]))
