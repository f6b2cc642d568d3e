"""Every way an adapter, a composition or a batch can be wrong, drawn as one tree.

AdapterError
├── InvalidName               a name or reference that the grammar refuses
├── InvalidComposition        a composition that the grammar or the nesting table refuses
├── UnsupportedComposition    a valid composition that this version does not run
├── InvalidPackage            bytes that are no native package (limits, header, manifest)
│   └── UnsafeFile            a pickle or another file that only the converter may touch
├── Misfit                    a package that does not fit the backbone; carries every reason
├── UnknownArchitecture       a backbone family that has no record, or whose record does not match
├── InvalidRow                a row that cannot run (ids out of the vocabulary, too long, empty)
│   ├── InvalidArrangement    adapters that cannot be arranged as the row's composition says
│   └── InvalidRows           a batch with such rows; carries the reason of each
├── LoadFailed                a published package that could not be fetched, read or folded
│   ├── PackageLost           its bytes are not in the store
│   ├── PackageRotten         the store holds other bytes than its digest says, however often they are fetched
│   └── StoreUnavailable      the store or the disk can not give them now; later they may
└── OutOfRoom                 a lease larger than the tier's whole budget
"""

from collections.abc import Mapping, Sequence


class AdapterError(Exception):
    """Base of every error of the library."""


class InvalidName(AdapterError):
    """A name, alias or reference breaks the grammar of `adapters.refs`."""


class InvalidComposition(AdapterError):
    """A composition breaks the grammar or the nesting table; `pointer` is a JSON pointer to the fault."""

    def __init__(self, message: str, pointer: str = "") -> None:
        super().__init__(message)
        self.pointer = pointer


class UnsupportedComposition(InvalidComposition):
    """A composition is well-formed, but this version does not run it."""


class InvalidPackage(AdapterError):
    """A file is not a native package: over a limit, a torn header, or a manifest that breaks the schema."""


class UnsafeFile(InvalidPackage):
    """A file is a pickle (or holds one); only `adapters.formats.converter` may open it."""


class Misfit(AdapterError):
    """A package does not fit the backbone; `reasons` holds every one of them."""

    def __init__(self, reasons: Sequence[str]) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = tuple(reasons)


class UnknownArchitecture(AdapterError):
    """No record describes this backbone, or the record names paths which the live model lacks."""


class InvalidRow(AdapterError):
    """One row of a batch cannot run."""


class InvalidArrangement(InvalidRow):
    """A row's adapters cannot be arranged as its composition says."""


class InvalidRows(InvalidRow):
    """Rows of a batch cannot run; `faults` holds the reason of each, by its place in the batch. The others can."""

    def __init__(self, faults: Mapping[int, InvalidRow]) -> None:
        super().__init__("; ".join(dict.fromkeys(map(str, faults.values()))))
        self.faults = dict(faults)


class LoadFailed(AdapterError):
    """A published package could not be fetched, read or folded; the message says which step failed."""


class PackageLost(LoadFailed):
    """The store holds no bytes of `digest`: nobody can load them until they are published again."""

    def __init__(self, message: str, digest: str) -> None:
        super().__init__(message)
        self.digest = digest


class PackageRotten(LoadFailed):
    """The store itself holds other bytes than those of `digest`."""

    def __init__(self, message: str, digest: str) -> None:
        super().__init__(message)
        self.digest = digest


class StoreUnavailable(LoadFailed):
    """The store or the disk can not give the bytes now; `retry_after` is in seconds."""

    def __init__(self, message: str, retry_after: float | None = None) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class OutOfRoom(AdapterError):
    """A lease needs more bytes than its tier has in all."""
