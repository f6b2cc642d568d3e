"""`chorus serve`: what can not be is refused at once, and never is it reachable from other machines without a key."""

import subprocess
import sys

from serving.commands.stored_keys import any_key
from serving.config import ServiceSettings
from serving.deployment import serve_forever
from serving.errors import Forbidden, no_gpu
from serving.logs import configure, log
from serving.registry.addresses import address_of
from serving.sizing import Machine, sized

_LOOK = (
    "import torch; "
    "print('here' if torch.cuda.is_available() else 'unbuilt' if torch.version.cuda is None else 'absent')"
)


def serve(settings: ServiceSettings) -> None:
    """Serve until interrupted.

    Raises `Forbidden` for an address beyond loopback while there are no keys, and `Conflict` for a GPU that is not here.
    """
    refuse_open_door(settings)
    refuse_absent_gpu(settings)
    settings, why = sized(settings, Machine.here())
    configure()
    log("service", "starting", engines=settings.engines, threads=settings.threads, why=why)
    serve_forever(settings)


def refuse_open_door(settings: ServiceSettings) -> None:
    """Without keys everyone may do everything, so that only loopback may be served."""
    if settings.loopback or any_key(settings.data, settings.database_url):
        return
    where = f"--data {settings.data}"
    if settings.database_url:  # else the key would be made in SQLite, and the next start refused again
        where += f" --database-url '{address_of(settings.database_url).render_as_string()}'"
    raise Forbidden(
        f"--host {settings.host} is reachable from other machines, and there is no key: make one with "
        f"`chorus key create {where} --tenant default --scopes predict,publish,operate,admin`",
        code="no_keys",
    )


def refuse_absent_gpu(settings: ServiceSettings) -> None:
    """A GPU is looked for before anything is started, where it has to be this machine's. Raises `Conflict`.

    In a process of its own: torch would stay in this one, which only watches, for as long as the service runs.
    """
    if not settings.on_gpu or settings.ray_address:
        return
    looked = subprocess.run([sys.executable, "-P", "-c", _LOOK], capture_output=True, text=True, check=False)  # noqa: S603
    match looked.stdout.strip():
        case "here":
            return
        case "absent":
            raise no_gpu(settings.device, "torch finds no GPU")
        case "unbuilt":
            raise no_gpu(settings.device, "this torch was built without CUDA", "install one that was built with it")
    last = (looked.stderr.strip().splitlines() or [f"it ended with {looked.returncode}"])[-1]
    raise no_gpu(settings.device, f"torch can not look for a GPU ({last})")
