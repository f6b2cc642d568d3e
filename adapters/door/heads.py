"""AdapterHub's verbs for prediction heads: one to add each kind, to load, save and delete them."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

from torch import Tensor

from adapters.door.adapters import parted, renamed
from adapters.door.arguments import Names, labels_of, labels_to_load, refuse
from adapters.door.owner import DEFAULT, Owner, folder_of
from adapters.door.sources import below, readable, tell
from adapters.embeddings import MATRIX
from adapters.errors import Misfit
from adapters.formats import language_head, recognise
from adapters.formats.adapterhub import folder as adapterhub
from adapters.formats.adapterhub.head_config import SCALED
from adapters.formats.labels import problem_of, unnamed
from adapters.heads.question_answering import LABELS
from adapters.heads.table import initialise_head
from adapters.manifest import HeadSpec
from adapters.weights import Package


class Heads(Owner):
    """Verbs for heads. A new head trains, and is active; dropout, which AdapterHub's heads have, is left out."""

    def add_classification_head(
        self,
        head_name: str,
        num_labels: int = 2,
        layers: int = 2,
        activation_function: str | None = "tanh",
        overwrite_ok: bool = False,
        multilabel: bool = False,
        id2label: Names = None,
        use_pooler: bool = False,
    ) -> None:
        """Classify rows; with `multilabel` each label for itself, and with one label it is a regression."""
        kind = "multilabel_classification" if multilabel else "classification"
        pooling = self._pooling(use_pooler=use_pooler)
        labels = _labels(id2label, num_labels)
        self._add(head_name, _spec(kind, layers, activation_function, pooling, labels), overwrite_ok)

    def add_image_classification_head(
        self,
        head_name: str,
        num_labels: int = 2,
        layers: int = 1,
        activation_function: str | None = "tanh",
        overwrite_ok: bool = False,
        multilabel: bool = False,
        id2label: Names = None,
        use_pooler: bool = False,
    ) -> None:
        """Classify images, as `add_classification_head` does with rows of text."""
        self.add_classification_head(
            head_name, num_labels, layers, activation_function, overwrite_ok, multilabel, id2label, use_pooler
        )

    def add_tagging_head(
        self,
        head_name: str,
        num_labels: int = 2,
        layers: int = 1,
        activation_function: str | None = "tanh",
        overwrite_ok: bool = False,
        id2label: Names = None,
    ) -> None:
        """Classify tokens."""
        labels = _labels(id2label, num_labels)
        self._add(head_name, _spec("tagging", layers, activation_function, "tokens", labels), overwrite_ok)

    def add_qa_head(
        self,
        head_name: str,
        num_labels: int = 2,
        layers: int = 1,
        activation_function: str | None = "tanh",
        overwrite_ok: bool = False,
        id2label: Names = None,
    ) -> None:
        """Find the first and the last token of an answer."""
        if num_labels != len(LABELS) or id2label is not None:
            raise ValueError("a question answering head has two outputs, the first and the last token, without names")
        self._add(head_name, _spec("question_answering", layers, activation_function, "tokens", LABELS), overwrite_ok)

    def add_multiple_choice_head(
        self,
        head_name: str,
        num_choices: int = 2,
        layers: int = 2,
        activation_function: str | None = "tanh",
        overwrite_ok: bool = False,
        id2label: Names = None,
        use_pooler: bool = False,
    ) -> None:
        """Choose between rows of one question."""
        pooling = self._pooling(use_pooler=use_pooler)
        labels = () if id2label is None else _labels(id2label, num_choices)
        spec = _spec("multiple_choice", layers, activation_function, pooling, labels)
        self._add(head_name, replace(spec, choices=num_choices), overwrite_ok)

    def add_masked_lm_head(
        self,
        head_name: str,
        activation_function: str | None = "gelu",
        layers: int = 2,
        overwrite_ok: bool = False,
        *,
        layer_norm: bool = True,
        bias: bool = True,
    ) -> None:
        """Guess words of the active vocabulary; its matrix is where the last map starts (it is tied no longer then)."""
        self._add_words(
            "masked_lm", head_name, activation_function, layers, overwrite_ok, layer_norm=layer_norm, bias=bias
        )

    def add_causal_lm_head(
        self,
        head_name: str,
        activation_function: str | None = "gelu",
        layers: int = 2,
        overwrite_ok: bool = False,
        *,
        layer_norm: bool = True,
        bias: bool = True,
    ) -> None:
        """Guess each next word of the active vocabulary, as `add_masked_lm_head` does the words themselves."""
        self._add_words(
            "causal_lm", head_name, activation_function, layers, overwrite_ok, layer_norm=layer_norm, bias=bias
        )

    def add_seq2seq_lm_head(
        self,
        head_name: str,
        activation_function: str | None = None,
        layers: int = 1,
        overwrite_ok: bool = False,
        *,
        layer_norm: bool = False,
        bias: bool = False,
    ) -> None:
        """Say each word of an encoder-decoder's second row from those before it, in the active vocabulary."""
        self._add_words(
            "seq2seq_lm", head_name, activation_function, layers, overwrite_ok, layer_norm=layer_norm, bias=bias
        )

    def add_dependency_parsing_head(
        self, head_name: str, num_labels: int = 2, overwrite_ok: bool = False, id2label: Names = None
    ) -> None:
        """Find the word that each word depends on, and by which of `num_labels` relations."""
        labels = _labels(id2label, num_labels)
        self._add(head_name, _spec("dependency_parsing", 1, None, "tokens", labels), overwrite_ok)

    def load_head(
        self,
        save_directory: str | Path,
        load_as: str | None = None,
        id2label: Names = None,
        use_safetensors: bool = True,
    ) -> str:
        """Load a head (AdapterHub, native, or the head in an adapter's folder) and make it active; frozen at first.

        `id2label` renames its labels. Raises `Misfit`, and `InvalidName` where it can not be called as it says.
        """
        path = save_directory
        with readable(path) as source:
            package = recognise.read(source, self.backbone.profile, labels=labels_to_load(id2label, None))
        _, head = parted(package)
        if head is None:
            raise Misfit([f"{path} holds no head"])
        assert head.manifest.head is not None
        name = load_as or head.manifest.head.name or Path(path).stem
        if load_as is None:
            below(path, name)
        self.keep(self.heads, name, head, replace=True, frozen=True)
        self.active_head = name
        tell(path, recognise.warnings(head))
        return name

    def load_lm_head(self, model_folder: str | Path, head_name: str = "lm_head") -> None:
        """The head over the vocabulary of a generating model's own folder, frozen, and active; raises `Misfit` without one."""
        package = language_head.read(Path(model_folder), self.backbone.profile)
        self.keep(self.heads, head_name, package, replace=True, frozen=True)
        self.active_head = head_name

    def save_head(
        self,
        save_directory: str | Path,
        head_name: str | None = None,
        use_safetensors: bool = True,
    ) -> None:
        """Save a head (default: the active one) as AdapterHub's folder."""
        refuse("save_head", use_safetensors=use_safetensors)
        name = self.active_head if head_name is None else head_name
        if name is None:
            raise ValueError("there is no active head: name one")
        package = self.heads[name].package()
        adapterhub.write(
            Package(renamed(package.manifest, name), package.tensors), folder_of(save_directory), name=name
        )

    def save_all_heads(self, save_directory: str | Path, use_safetensors: bool = True) -> None:
        """Save every head in a folder of its name; raises `InvalidName` for a name that no folder can have."""
        refuse("save_all_heads", use_safetensors=use_safetensors)
        places = {name: below(save_directory, name) for name in self.heads}
        for name, place in places.items():
            self.save_head(place, name, use_safetensors)

    def delete_head(self, head_name: str) -> None:
        """Forget a head, if it is here."""
        if head_name in self.heads:
            del self.heads[head_name]
        if self.active_head == head_name:
            self.active_head = None

    def get_labels_dict(self, head_name: str | None = None) -> dict[int, str]:
        """The labels of a head (default: the active one) by their ids; raises `ValueError`."""
        spec = self.spec(self.active_head if head_name is None else head_name)
        if spec is None:
            raise ValueError("there is no active head: name one")
        return dict(enumerate(spec.labels))

    def get_labels(self, head_name: str | None = None) -> list[str]:
        """The labels of a head (default: the active one) in the order of their ids; raises `ValueError`."""
        return list(self.get_labels_dict(head_name).values())

    def word_vectors(self, name: str) -> Tensor:
        """The matrix [tokens, width] of a vocabulary, `default` being the backbone's own; not differentiable."""
        if name != DEFAULT:
            return self.embeddings[name].tensors()[MATRIX].detach().cpu()
        matrix: Tensor = self.backbone.model.get_input_embeddings().weight  # type: ignore[operator]
        return matrix.detach().cpu()

    def _pooling(self, *, use_pooler: bool) -> str:
        """What a head for rows reads: the family's own state, where it is not the pooler's."""
        return "pooler" if use_pooler else self.backbone.profile.geometry.architecture.hub_pooling

    def _add_words(
        self,
        kind: str,
        head_name: str,
        activation: str | None,
        layers: int,
        overwrite_ok: bool,
        *,
        layer_norm: bool,
        bias: bool,
    ) -> None:
        """A head over the words of the active vocabulary, whose matrix is where its last map starts."""
        geometry, matrix = self.backbone.profile.geometry, self.word_vectors(self._active_embedding)
        spec = replace(
            _spec(kind, layers, activation, "tokens", ()),
            bias=bias,
            vocabulary=matrix.shape[0],
            width=geometry.embedding_size,
            norm_eps=geometry.norm_eps if layer_norm and layers > 1 else None,
        )
        if layers == 1 and geometry.embedding_size != geometry.hidden_size:
            raise Misfit(["with one layer the words must be as wide as the hidden states: give the head two layers"])
        self._add(head_name, spec, overwrite_ok, {f"head/{layers - 1}/weight": matrix})

    def _add(self, name: str, spec: HeadSpec, overwrite_ok: bool, given: Mapping[str, Tensor] | None = None) -> None:
        scaled = spec.type in SCALED
        spec = replace(spec, name=name, scale=self.backbone.profile.geometry.head_scale if scaled else None)
        fresh = initialise_head(spec, self.backbone.profile.geometry.hidden_size, self.generator())
        package = Package(self.manifest("head", head=spec), {**fresh, **(given or {})})
        self.keep(self.heads, name, package, replace=overwrite_ok)
        self.active_head = name


def _spec(kind: str, layers: int, activation: str | None, pooling: str, labels: tuple[str, ...]) -> HeadSpec:
    return HeadSpec(
        type=kind,
        layers=layers,
        activation=activation if layers > 1 else None,
        bias=True,
        pooling=pooling,
        labels=labels,
        problem_type=problem_of(kind, len(labels)),
    )


def _labels(names: Names, count: int) -> tuple[str, ...]:
    return labels_of(names, count) or unnamed(count)
