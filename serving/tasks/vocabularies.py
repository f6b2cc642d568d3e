"""The tokenizers of a gateway: the backbone's own, and the latest used of the tenants' token embeddings."""

import json
import threading
from collections import OrderedDict
from pathlib import Path

from adapters.architectures.geometry import Geometry
from adapters.manifest import EmbeddingSpec
from adapters.refs import AdapterRef
from serving.errors import DependencyFailed
from serving.tasks.tokenization import Tokenizer

TENSOR = "embedding/tokenizer/bytes"
MAX_HEADER_BYTES = 1 << 20


class Vocabularies:
    """Tokenizers by (tenant, digest), at most `capacity` of them; safe to use from several threads."""

    def __init__(self, tokenizer_json: bytes, geometry: Geometry, capacity: int = 16) -> None:
        self._json = tokenizer_json
        self._types = geometry.type_vocabulary
        self._capacity = capacity
        self._lock = threading.Lock()
        self._held: OrderedDict[tuple[str, str], Tokenizer] = OrderedDict()
        self.default = Tokenizer(tokenizer_json, vocabulary=geometry.vocabulary, types=self._types)

    def held(self, ref: AdapterRef) -> Tokenizer | None:
        """The tokenizer of an embedding if it is in memory; it becomes the latest used."""
        with self._lock:
            tokenizer = self._held.get(ref.key)
            if tokenizer is not None:
                self._held.move_to_end(ref.key)
            return tokenizer

    def read(self, ref: AdapterRef, spec: EmbeddingSpec, package: Path) -> Tokenizer:
        """Read an embedding's tokenizer from its package and hold it; one without its own uses the backbone's.

        Raises `DependencyFailed`. Two threads may both read one package: the second result is the same and replaces
        the first.
        """
        data = read_bytes(package, TENSOR) if spec.tokenizer else self._json
        tokenizer = Tokenizer(data, vocabulary=spec.vocabulary, types=self._types)
        with self._lock:
            self._held[ref.key] = tokenizer
            self._held.move_to_end(ref.key)
            while len(self._held) > self._capacity:
                self._held.popitem(last=False)
        return tokenizer

    def check(self) -> None:
        """The number of held tokenizers is within its bound."""
        with self._lock:
            assert len(self._held) <= self._capacity, f"{len(self._held)} tokenizers for {self._capacity} places"


def read_bytes(package: Path, tensor: str) -> bytes:
    """One U8 tensor of a safetensors file (eight bytes of size, JSON header, data); raises `DependencyFailed`."""
    try:
        with package.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if size > MAX_HEADER_BYTES:
                raise ValueError(f"the header has {size} bytes")
            entry = json.loads(file.read(size))[tensor]
            begin, end = entry["data_offsets"]
            file.seek(8 + size + begin)
            data = file.read(end - begin)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DependencyFailed(f"{tensor} can not be read: {error!r}", code="bad_tokenizer") from error
    if entry["dtype"] != "U8" or len(data) != end - begin:
        raise DependencyFailed(f"{tensor} is torn or no bytes", code="bad_tokenizer")
    return data
