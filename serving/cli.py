"""`chorus`, the operator's hand: the root command, and the commands that need more than HTTP.

Their imports stand inside them, so that `chorus ls` pays for neither torch nor Ray nor SQL. Results go to stdout,
progress and errors to stderr; the exit code says which kind of error it was (`EXIT_CODES`).
"""

import os
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from typer.core import TyperGroup

from adapters.errors import AdapterError
from serving.client import DEFAULT_URL
from serving.commands import (
    audit,
    backup,
    embeddings,
    garbage,
    keys,
    names,
    placing,
    predicting,
    scrub,
    tables,
    targets,
    tenants,
)
from serving.commands.options import (
    BlobUrl,
    Connection,
    Convertible,
    Data,
    DatabaseUrl,
    Fitting,
    HeadSeed,
    Json,
    Labels,
    Port,
    ProblemType,
    TaskId,
    connect,
    split,
)
from serving.config import CacheSettings, ServiceSettings, parse_size
from serving.errors import BadRequest, ServiceError

EXIT_CODES = {401: 6, 403: 6, 404: 3, 409: 4, 412: 4, 429: 5, 503: 5, 504: 5}  # by status; other errors 1, usage 2
TraceEndpoint = Annotated[
    str, typer.Option(envvar="CHORUS_TRACE_ENDPOINT", metavar="URL", help="OTLP/HTTP collector; default: no traces.")
]
Engines = Annotated[
    int | None, typer.Option(min=1, help="Processes that hold the backbone; default: by cores and memory.")
]
RayAddress = Annotated[
    str, typer.Option(metavar="ADDRESS", help="Join a Ray cluster; needs PostgreSQL and a blob store of all nodes.")
]


class Commands(TyperGroup):
    """The root group: turns every expected error into one message on stderr and its exit code."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was named."""
        try:
            return super().invoke(ctx)
        except (ServiceError, AdapterError, OSError) as error:
            tables.complain(error)
            raise typer.Exit(exit_code(error)) from error


app = typer.Typer(cls=Commands, no_args_is_help=True, pretty_exceptions_enable=False)
for group in (names.app, placing.app, predicting.app, audit.app, garbage.app, scrub.app, backup.app):
    app.add_typer(group)
for group, called in (
    (keys.app, "key"),
    (tenants.app, "tenant"),
    (targets.app, "target"),
    (embeddings.app, "embedding"),
):
    app.add_typer(group, name=called)


def main() -> None:
    """The entry point."""
    app()


def exit_code(error: Exception) -> int:
    """1 error, 3 not found, 4 conflict, 5 not ready, 6 auth (0 is ok, 2 is usage)."""
    if isinstance(error, ServiceError):
        return EXIT_CODES.get(error.status, 1)
    return 3 if isinstance(error, FileNotFoundError) else 1


def _version(wanted: bool) -> None:
    if wanted:
        from serving.commands.doctor import release

        tables.done(f"chorus {release()}")
        raise typer.Exit


@app.callback()
def root(
    ctx: typer.Context,
    url: Annotated[str, typer.Option("--url", envvar="CHORUS_HOST", help="Address of the service.")] = DEFAULT_URL,
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True)] = False,
) -> None:
    """One frozen backbone, many voices. A service with keys is asked with the one in the variable CHORUS_API_KEY."""
    ctx.obj = Connection(url, os.environ.get("CHORUS_API_KEY") or None)


@app.command()
def serve(
    backbone: Annotated[Path, typer.Option(help="Folder of the backbone: config.json, model.safetensors ...")],
    data: Annotated[Path, typer.Option(help="Folder of the registry and its packages.")],
    *,
    host: Annotated[str, typer.Option(help="Address; any but loopback needs a key.")] = "127.0.0.1",
    port: Port = 8000,
    device: Annotated[Literal["cpu", "cuda"], typer.Option(help="What the engines compute on.")] = "cpu",
    dtype: Annotated[
        Literal["float32", "bfloat16"], typer.Option(help="Numbers of the backbone and of what acts in it.")
    ] = "float32",
    cuda_graphs: Annotated[
        bool, typer.Option("--cuda-graphs", help="Capture passes that come again, and replay them; with --device cuda.")
    ] = False,
    device_cache: Annotated[str, typer.Option(metavar="SIZE", help="Packages ready to act, per engine.")] = "256MiB",
    host_cache: Annotated[str, typer.Option(metavar="SIZE", help="Packages in memory, per engine.")] = "1GiB",
    disk_cache: Annotated[str, typer.Option(metavar="SIZE", help="Copies of packages on disk, per engine.")] = "8GiB",
    engines: Engines = None,
    gateways: Annotated[int, typer.Option(min=1, help="Processes that answer HTTP.")] = 1,
    threads: Annotated[int, typer.Option(min=0, help="Torch threads of an engine; 0 shares the cores.")] = 0,
    database_url: DatabaseUrl = "",
    blob_url: BlobUrl = "",
    watch: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Publish what appears as DIR/tenant/name (no pickles), moving no alias; `chorus watch` tells what became of it.",
        ),
    ] = None,
    drain: Annotated[float, typer.Option(min=0, help="Seconds that running requests may take at the end.")] = 10.0,
    log_size: Annotated[str, typer.Option(metavar="SIZE", help="Of one log file, before it is rotated.")] = "64MiB",
    trace_endpoint: TraceEndpoint = "",
    ray_address: RayAddress = "",
) -> None:
    """Serve a backbone and everything published for it. Cache sizes (256MiB, 1.5GB) are per engine."""
    settings = ServiceSettings(
        backbone=backbone,
        data=data,
        host=host,
        port=port,
        device=device,
        dtype=dtype,
        cuda_graphs=cuda_graphs,
        engines=engines or 0,
        gateways=gateways,
        threads=threads,
        database_url=database_url,
        blob_url=blob_url,
        ray_address=ray_address,
        watch=watch,
        drain_s=drain,
        log_bytes=_size(log_size, "--log-size"),
        trace_endpoint=trace_endpoint,
        cache=CacheSettings(
            _size(device_cache, "--device-cache"), _size(host_cache, "--host-cache"), _size(disk_cache, "--disk-cache")
        ),
    )
    from serving.commands.start import serve as run

    run(settings)


@app.command()
def demo(
    *,
    once: Annotated[bool, typer.Option("--once", help="Stop after the burst of predictions.")] = False,
    port: Port = 8000,
    data: Annotated[Path, typer.Option(help="Folder of the demo's registry.")] = Path("deploy/data/demo"),
    samples: Annotated[Path, typer.Option(help="Folder of native packages.")] = Path("deploy/samples"),
) -> None:
    """Serve all-MiniLM-L6-v2 with the sample adapters, and show a burst of predictions."""
    from serving.demo import run

    run(data, samples, port, once=once)


@app.command()
def convert(
    ctx: typer.Context,
    source: Convertible,
    target: Annotated[Path, typer.Argument(metavar="DST", help="A file for native, a folder for the others.")],
    *,
    to: Annotated[Literal["native", "adapterhub", "peft"], typer.Option(help="The format to write.")] = "native",
    labels: Labels = "",
    problem_type: ProblemType = "",
    head_seed: HeadSeed = None,
    task_id: TaskId = None,
    backbone: Fitting = None,
) -> None:
    """Convert between AdapterHub, PEFT and native packages; pickles become safetensors."""
    from serving.commands.packages import Reading, prepare, write

    with connect(ctx) as client:
        ready = prepare(Reading(source, backbone, split(labels), problem_type or None, head_seed, task_id), client)
    write(ready, target, to)


@app.command()
def train(
    *,
    backbone: Annotated[Path, typer.Option(help="Folder of the backbone.")],
    data: Annotated[Path, typer.Option(help="text<TAB>label lines (.tsv), or objects with text and label (.jsonl).")],
    method: Annotated[str, typer.Option(help="bottleneck, lora, ia3, prefix_tuning, prompt_tuning ...")],
    task: Annotated[
        Literal["classification", "multilabel", "regression", "tagging"], typer.Option(help="What the head answers.")
    ],
    out: Annotated[Path, typer.Option(help="The native package to write.")],
    epochs: Annotated[int, typer.Option(min=1, help="Passes over the examples.")] = 10,
    learning_rate: Annotated[float, typer.Option(min=0, help="The highest; it falls to 0 at the end.")] = 1e-3,
    batch_size: Annotated[int, typer.Option(min=1, help="Examples of one step.")] = 16,
    held_out: Annotated[float, typer.Option(min=0, max=0.9, help="Share of examples to measure on.")] = 0.2,
    held_out_data: Annotated[Path | None, typer.Option(help="Measure on the examples of this file instead.")] = None,
    head_layers: Annotated[int, typer.Option(min=1, max=4, help="Linear layers of the head.")] = 1,
    seed: Annotated[int, typer.Option(help="Of the draw of the weights and the order of the examples.")] = 0,
    as_json: Json = False,
) -> None:
    """Train an adapter and its head on a frozen backbone, and measure it on examples it never saw."""
    from adapters.training import TrainingSettings
    from serving.commands.training import Course, run

    settings = TrainingSettings(
        method,
        task,
        epochs=epochs,
        learning_rate=learning_rate,
        batch_size=batch_size,
        seed=seed,
        held_out=held_out,
        layers=head_layers,
    )
    run(Course(backbone, data, out, held_out_data), settings, as_json=as_json)


@app.command()
def doctor(
    ctx: typer.Context,
    backbone: Fitting = None,
    data: Data = None,
    database_url: DatabaseUrl = "",
    as_json: Json = False,
) -> None:
    """Check this installation, a backbone, a registry and the service."""
    from serving.commands.doctor import examine

    with connect(ctx) as client:
        findings = examine(client, backbone, data, database_url)
    if as_json:
        tables.print_json([vars(finding) for finding in findings])
    else:
        tables.table(
            ("", "WHAT", "FOUND"), [("ok" if item.good else "BAD", item.what, item.found) for item in findings]
        )
    if not all(item.good for item in findings):
        raise typer.Exit(1)


def _size(text: str, option: str) -> int:
    try:
        return parse_size(text)
    except BadRequest as error:
        raise typer.BadParameter(error.detail, param_hint=option) from error


if __name__ == "__main__":
    main()
