"""The same application on a cluster of several nodes: what `serve deploy` and KubeRay build (`serving.cluster:build`).

There Ray is started by somebody else, with the settings of `deploy/kuberay/rayservice.yaml` in the environment of every
node. A node's disk holds caches and logs alone; names are in PostgreSQL, and packages in a store that every node reads.
"""

from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from serving.commands.start import refuse_open_door
from serving.config import CacheSettings, ServiceSettings, parse_size
from serving.deployment import application, examined, prepare_registry
from serving.errors import BadRequest

HERE = "auto"  # the cluster that this process is a part of


class Arguments(BaseModel):
    """`args` of the application in Serve's configuration; named as the options of `chorus serve`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    backbone: Path  # the same folder on every node
    data: Path = Path("/data")  # of each node: caches and logs
    database_url_file: Path  # holds the URL of PostgreSQL: a mounted secret
    blob_url: str  # s3://bucket/prefix, gs://... or az://...
    device: Literal["cpu", "cuda"] = "cpu"
    dtype: Literal["float32", "bfloat16"] = "float32"
    cuda_graphs: bool = False
    engines: int = Field(default=2, ge=1)
    gateways: int = Field(default=2, ge=1)
    threads: int = Field(default=0, ge=0)
    device_cache: str = "256MiB"
    host_cache: str = "1GiB"
    disk_cache: str = "8GiB"
    drain: float = Field(default=10.0, ge=0)
    trace_endpoint: str = ""

    def settings(self) -> ServiceSettings:
        """As the service reads them; raises `BadRequest` for a size that is none, or a secret that is not there."""
        try:
            database_url = self.database_url_file.read_text().strip()
        except OSError as error:
            raise BadRequest(f"database_url_file {self.database_url_file}: {error.strerror}") from error
        return ServiceSettings(
            backbone=self.backbone,
            data=self.data,
            host="0.0.0.0",  # noqa: S104 - a Service stands before it, and without keys the start is refused
            device=self.device,
            dtype=self.dtype,
            cuda_graphs=self.cuda_graphs,
            engines=self.engines,
            gateways=self.gateways,
            threads=self.threads,
            database_url=database_url,
            blob_url=self.blob_url,
            ray_address=HERE,
            drain_s=self.drain,
            trace_endpoint=self.trace_endpoint,
            cache=CacheSettings(
                _size("device_cache", self.device_cache),
                _size("host_cache", self.host_cache),
                _size("disk_cache", self.disk_cache),
            ),
        )


def build(args: Arguments) -> Any:
    """The application; the registry is migrated and bound to the backbone first.

    Raises `Conflict` where truth would lie on one node or Ray asks nobody for a token, `Forbidden` where there is no
    key yet, and `BadRequest`.
    """
    settings = args.settings()
    profile = examined(settings)
    refuse_open_door(settings)
    settings.data.mkdir(parents=True, exist_ok=True)
    prepare_registry(settings, profile)
    return application(settings, profile)


def _size(argument: str, text: str) -> int:
    try:
        return parse_size(text)
    except BadRequest as error:
        raise BadRequest(f"{argument}: {error.detail}", code=error.code) from error
