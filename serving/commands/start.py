"""`chorus serve`: what can not be is refused at once, and never is it reachable from other machines without a key."""

from serving.commands.stored_keys import any_key
from serving.config import ServiceSettings
from serving.deployment import serve_forever
from serving.errors import Conflict, Forbidden
from serving.registry.addresses import address_of


def serve(settings: ServiceSettings) -> None:
    """Serve until interrupted.

    Raises `Forbidden` for an address beyond loopback while there are no keys, and `Conflict` for a GPU that is not here.
    """
    refuse_open_door(settings)
    refuse_absent_gpu(settings)
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
        f"`chorus key create {where} --tenant default --scopes predict,publish,operate`",
        code="no_keys",
    )


def refuse_absent_gpu(settings: ServiceSettings) -> None:
    """A GPU is looked for before anything is started, where it has to be this machine's."""
    if settings.device != "cuda" or settings.ray_address:
        return
    import torch  # noqa: PLC0415 - seconds, for this alone

    if torch.cuda.is_available():
        return
    if torch.version.cuda is None:
        why, remedy = "this torch was built without CUDA", "install one that was built with it"
    else:
        why, remedy = "torch finds no GPU", "look at `nvidia-smi` and CUDA_VISIBLE_DEVICES"
    raise Conflict(f"--device cuda: {why}: {remedy}, or serve with --device cpu", code="no_gpu")
