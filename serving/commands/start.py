"""`chorus serve`: never reachable from other machines without a key, then handed to the composition root."""

from serving.commands.stored_keys import any_key
from serving.config import ServiceSettings
from serving.deployment import serve_forever
from serving.errors import Forbidden
from serving.registry.addresses import address_of


def serve(settings: ServiceSettings) -> None:
    """Serve until interrupted; raises `Forbidden` for an address beyond loopback while there are no keys."""
    refuse_open_door(settings)
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
