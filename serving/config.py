"""Settings of the service: frozen, nested, and read once.

Every value has a default; the command line overrides the environment (`CHORUS_...`). Sizes are bytes here; the border
accepts "256MiB".
"""

import re
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path

from serving.errors import BadRequest

HEALTH_CHECK_S = 30.0  # how long a replica may take to say that it is well; Ray ends it when it failed thrice
REPLACED_S = 5.0  # in about so long an engine that died is replaced: when to ask again
HUNG_S = 3 * HEALTH_CHECK_S + REPLACED_S  # the same for one that hangs

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(B|KiB|MiB|GiB|KB|MB|GB)?", re.IGNORECASE)
_UNITS = {"b": 1, "kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "kb": 10**3, "mb": 10**6, "gb": 10**9}


@dataclass(frozen=True)
class Limits:
    """What one request may ask for; told by `GET /v1/limits`."""

    max_inputs: int = 256
    max_rows: int = 1024  # windows, choices and branches each make one
    max_body_bytes: int = 2 << 20
    max_input_characters: int = 100_000
    max_package_bytes: int = 512 << 20
    max_image_bytes: int = 10 << 20  # of one image, as it is stored
    max_image_pixels: int = 1 << 25  # of one image, as it is drawn
    max_image_body_bytes: int = 32 << 20  # of a JSON body, where the backbone reads images
    max_tokenizer_bytes: int = 64 << 20  # of a JSON body that brings tokenizers
    max_tokens: int = 512  # of one row
    max_request_tokens: int = 1 << 17  # of all rows of a request together
    max_answer_items: int = 20_000  # labels, answers, fillings: what an answer may hold beside a thing per token
    default_timeout_ms: int = 30_000
    max_timeout_ms: int = 120_000


@dataclass(frozen=True)
class CacheSettings:
    """Byte budgets of the three tiers of one engine."""

    device_bytes: int = 256 << 20
    host_bytes: int = 1 << 30
    disk_bytes: int = 8 << 30


@dataclass(frozen=True)
class BatchSettings:
    """The budgets that one step of an engine may fill, and how long its queue may grow."""

    max_rows: int = 64
    max_tokens: int = 4096
    max_queued: int = 4096
    step_s: float = 0.03  # an ordinary step holds what the machine does in so many seconds; one row at least


@dataclass(frozen=True)
class ServiceSettings:
    """One service: where it listens, what it serves, and how many processes share the work."""

    backbone: Path
    data: Path
    host: str = "127.0.0.1"
    port: int = 8000
    device: str = "cpu"
    dtype: str = "float32"
    cuda_graphs: bool = False  # passes that come again are captured and replayed; needs device cuda
    engines: int = 1  # 0 is for `sizing` to choose, before anything is started
    gateways: int = 1
    threads: int = 0  # torch threads of an engine; 0 shares the cores among the engines
    database_url: str = ""  # empty is SQLite in the data folder
    blob_url: str = ""  # empty is the data folder; else s3://bucket/prefix, gs://... or az://... (extra `cloud`)
    blob_deadline_s: float = 6.0  # one request to a bucket; longer than a part of 5 MiB takes on a slow line
    ray_address: str = ""  # joins a Ray cluster of several nodes; empty is a cluster of one, started here
    watch: Path | None = None  # what appears under it as tenant/name is published
    drain_s: float = 10.0  # how long requests that run may take when the service is told to stop
    log_bytes: int = 64 << 20  # of one log file, before it is rotated
    trace_endpoint: str = ""  # OTLP over HTTP (extra `tracing`); empty is no tracing
    limits: Limits = field(default_factory=Limits)
    cache: CacheSettings = field(default_factory=CacheSettings)
    batch: BatchSettings = field(default_factory=BatchSettings)

    @property
    def sql_url(self) -> str:
        """The database: PostgreSQL by URL, else SQLite in the data folder."""
        return self.database_url or f"sqlite:///{self.data.resolve() / 'registry.sqlite'}"

    @property
    def on_gpu(self) -> bool:
        """Whether the engines compute on GPUs."""
        return self.device.startswith("cuda")

    @property
    def loopback(self) -> bool:
        """Whether the service listens on loopback only."""
        try:
            return ip_address(self.host).is_loopback
        except ValueError:  # a name
            return self.host == "localhost"


def parse_size(text: str) -> int:
    """`256MiB`, `1.5GB` or `1048576` in bytes; raises `BadRequest` naming the accepted units."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise BadRequest(f"{text!r} is not a size: write a number and one of B, KiB, MiB, GiB, KB, MB, GB")
    return int(float(match[1]) * _UNITS[(match[2] or "B").lower()])
