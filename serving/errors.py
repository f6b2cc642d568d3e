"""Every refusal of the service, drawn as one tree, and the only table from exception to HTTP answer.

ServiceError                      code, status, retry_after, pointer
├── BadRequest          400       the body or a parameter is malformed
├── Unauthenticated     401
├── Forbidden           403       the key lacks a scope
├── NotFound            404       unknown, or another tenant's: the same answer
├── Conflict            409       an alias, a pin or another backbone is in the way
├── PreconditionFailed  412       If-Match names another revision
├── TooLarge            413       bytes or items over a limit
├── UnsupportedMedia    415
├── Unprocessable       422       well-formed, but not possible
├── DependencyFailed    424       a published adapter could not be loaded
├── Overloaded          429       queue or quota full; Retry-After says when
├── EngineFailed        500       a row's own weights gave no finite answer, or a bug
├── NotReady            503
├── Congested           503       the line is longer than the request's own deadline; Retry-After says when
└── DeadlineExceeded    504
"""

from dataclasses import dataclass

from adapters import errors as library


@dataclass(frozen=True)
class Fault:
    """One reason of a refusal; `pointer` is a JSON pointer into the request body."""

    pointer: str
    detail: str


class ServiceError(Exception):
    """Base of every refusal: a stable `code`, an HTTP `status`, and what the client can do about it."""

    status = 500
    code = "internal_error"
    title = "Internal error"

    def __init__(
        self,
        detail: str,
        *,
        code: str | None = None,
        pointer: str | None = None,
        faults: tuple[Fault, ...] = (),
        retry_after: float | None = None,
    ) -> None:
        super().__init__(detail)
        self.detail = detail
        self.code = code or type(self).code
        self.faults = faults or ((Fault(pointer, detail),) if pointer is not None else ())
        self.retry_after = retry_after  # seconds


class BadRequest(ServiceError):
    """The body or a parameter is malformed."""

    status, code, title = 400, "malformed_request", "Malformed request"


class Unauthenticated(ServiceError):
    """No key, or a key that is not known."""

    status, code, title = 401, "unauthenticated", "Authentication required"


class Forbidden(ServiceError):
    """The key is good, but lacks the scope."""

    status, code, title = 403, "missing_scope", "Not allowed"


class NotFound(ServiceError):
    """The name is unknown, or belongs to another tenant."""

    status, code, title = 404, "not_found", "Not found"


class Conflict(ServiceError):
    """The present state is in the way."""

    status, code, title = 409, "conflict", "Conflict"


class PreconditionFailed(ServiceError):
    """`If-Match` names another revision than the present one."""

    status, code, title = 412, "precondition_failed", "Precondition failed"


class TooLarge(ServiceError):
    """Bytes or items over a limit of `GET /v1/limits`."""

    status, code, title = 413, "too_large", "Too large"


class UnsupportedMedia(ServiceError):
    """A content type or encoding that is not accepted."""

    status, code, title = 415, "unsupported_media_type", "Unsupported media type"


class Unprocessable(ServiceError):
    """Well-formed, but not possible: too long, out of range, or a misfit."""

    status, code, title = 422, "unprocessable", "Unprocessable request"


class DependencyFailed(ServiceError):
    """A published adapter could not be loaded by an engine."""

    status, code, title = 424, "adapter_load_failed", "Adapter failed to load"


class Overloaded(ServiceError):
    """The queue or a quota is full."""

    status, code, title = 429, "overloaded", "Too many requests"


class EngineFailed(ServiceError):
    """The step failed for this row alone."""

    status, code, title = 500, "engine_failed", "The engine failed on this input"


class NotReady(ServiceError):
    """The service, or the store behind an unknown name, can not answer now."""

    status, code, title = 503, "not_ready", "Not ready"


class Congested(ServiceError):
    """What waits already would take longer than the request has: it is told at once instead of at its deadline."""

    status, code, title = 503, "overloaded_now", "Overloaded now"


class DeadlineExceeded(ServiceError):
    """The request's own deadline passed."""

    status, code, title = 504, "deadline_exceeded", "Deadline exceeded"


_KINDS: dict[str, type[ServiceError]] = {
    cls.code: cls
    for cls in (
        BadRequest,
        Unauthenticated,
        Forbidden,
        NotFound,
        Conflict,
        PreconditionFailed,
        TooLarge,
        UnsupportedMedia,
        Unprocessable,
        DependencyFailed,
        Overloaded,
        EngineFailed,
        NotReady,
        Congested,
        DeadlineExceeded,
    )
}

_LIBRARY: tuple[tuple[type[library.AdapterError], type[ServiceError], str], ...] = (
    (library.UnsupportedComposition, Unprocessable, "unsupported_composition"),
    (library.InvalidComposition, Unprocessable, "invalid_composition"),
    (library.InvalidName, BadRequest, "invalid_name"),
    (library.UnsafeFile, UnsupportedMedia, "unsafe_file"),
    (library.InvalidPackage, Unprocessable, "invalid_package"),
    (library.Misfit, Unprocessable, "does_not_fit"),
    (library.InvalidArrangement, Unprocessable, "invalid_arrangement"),
    (library.InvalidRow, Unprocessable, "invalid_row"),
    (library.OutOfRoom, DependencyFailed, "out_of_room"),
    (library.PackageLost, DependencyFailed, "blob_lost"),
    (library.PackageRotten, DependencyFailed, "blob_rotten"),
    (library.StoreUnavailable, NotReady, "storage_unavailable"),
    (library.LoadFailed, DependencyFailed, "adapter_load_failed"),
)

BROKEN = "engine_broken"  # the row was in the step that left its engine unable to compute: maybe because of it

_OF_DISPATCH: dict[str, type[ServiceError]] = {
    "poisonous_request": Unprocessable,  # two engine replicas died with the row on board
    "retries_exhausted": NotReady,  # too many rows lost their replica at once
    BROKEN: NotReady,  # no client sees it: the row is sent elsewhere, as from any replica that died
}

REFUSALS: dict[str, type[ServiceError]] = {**{code: kind for _, kind, code in _LIBRARY}, **_KINDS, **_OF_DISPATCH}
"""The kind, and so the HTTP status, of every code that a `Refusal` may carry."""


def from_library(error: library.AdapterError, pointer: str = "") -> ServiceError:
    """The refusal for a library error; library errors are translated here and nowhere else."""
    faults = tuple(Fault(pointer, reason) for reason in getattr(error, "reasons", ()))
    at = pointer + getattr(error, "pointer", "")
    for kind, refusal, code in _LIBRARY:
        if isinstance(error, kind):
            later = getattr(error, "retry_after", None)
            return refusal(str(error), code=code, pointer=at, faults=faults, retry_after=later)
    return ServiceError(str(error))


def no_gpu(device: str, why: str, remedy: str = "look at `nvidia-smi` and CUDA_VISIBLE_DEVICES") -> Conflict:
    """The refusal to serve on a GPU that is not there, whoever finds it out: the command, Ray, or an engine."""
    return Conflict(f"--device {device}: {why}: {remedy}, or serve with --device cpu", code="no_gpu")
