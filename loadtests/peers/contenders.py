"""Who takes part: libraries, the ways in which each can run a batch, and what each is measured against."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

MIXED, SWITCH = "mixed batch", "one at a time"  # ways to run rows that have adapters
PADDED, SORTED, PACKED = "padded", "length-sorted", "packed"  # ways to run rows that have none
CHORUS = "chorus"
FP32, BF16 = "fp32", "bf16"
PRECISIONS = (FP32, BF16)
BOTTLENECK, DOUBLE, LORA = "bottleneck", "double_bottleneck", "lora"
METHODS = (BOTTLENECK, DOUBLE, LORA)


@dataclass(frozen=True)
class Library:
    """One library: its methods, the ways it runs them in, those in which it runs the bare backbone, its precisions."""

    name: str
    title: str
    methods: tuple[str, ...] = ()
    ways: tuple[str, ...] = ()
    bare: tuple[str, ...] = ()
    precisions: tuple[str, ...] = PRECISIONS


@dataclass(frozen=True)
class Contender:
    """One way of one library, in one precision; `method` is None where rows have no adapters."""

    library: str
    way: str
    method: str | None
    precision: str

    @property
    def key(self) -> str:
        """As the reports and `--contender` spell it."""
        return " ".join((self.library, self.way, self.method or "backbone only", self.precision))


LIBRARIES: Mapping[str, Library] = {
    library.name: library
    for library in (
        Library(CHORUS, "Chorus", METHODS, (MIXED,), (PACKED,)),
        Library("adapterhub", "AdapterHub", METHODS, (MIXED, SWITCH)),
        Library("peft", "PEFT", (LORA,), (MIXED, SWITCH)),
        Library("transformers", "transformers", bare=(PADDED, SORTED)),
        Library("onnxruntime", "ONNX Runtime", bare=(PADDED, SORTED), precisions=(FP32,)),  # no bfloat16 on x86
        Library("openvino", "OpenVINO", bare=(PADDED, SORTED)),
    )
}


def contenders(libraries: Sequence[str], precisions: Sequence[str], methods: Sequence[str]) -> tuple[Contender, ...]:
    """Everyone who takes part when these are asked for; Chorus always does, as what the others are measured against."""
    chosen = [library for name, library in LIBRARIES.items() if name == CHORUS or name in libraries]
    return tuple(one for library in chosen for one in _of(library, precisions, methods))


def counterpart(peer: Contender, precision: str) -> Contender:
    """What Chorus does in place of a peer: the same rows with the same adapters, if any, in one batch."""
    return Contender(CHORUS, PACKED if peer.method is None else MIXED, peer.method, precision)


def _of(library: Library, precisions: Sequence[str], methods: Sequence[str]) -> Iterator[Contender]:
    for precision in [p for p in PRECISIONS if p in precisions and p in library.precisions]:
        for method in [m for m in METHODS if m in methods and m in library.methods]:
            yield from (Contender(library.name, way, method, precision) for way in library.ways)
        yield from (Contender(library.name, way, None, precision) for way in library.bare)
