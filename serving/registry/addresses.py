"""Which databases a registry may be in, and what may be said of where one is: never its password."""

from sqlalchemy import URL, exc, make_url

from serving.errors import BadRequest

DRIVERS = {"sqlite": "sqlite", "postgresql": "postgresql+psycopg", "postgresql+psycopg": "postgresql+psycopg"}
_REMEDY = "write postgresql+psycopg://USER:PASSWORD@HOST/DATABASE, or leave it out for SQLite in the data folder"


def address_of(url: str) -> URL:
    """A database URL with the driver that is used; raises `BadRequest`, without a word of what could be a password."""
    try:
        parsed = make_url(url)
    except (exc.ArgumentError, ValueError) as error:  # the latter for a port that is no number
        raise BadRequest(f"--database-url is no URL of a database: {_REMEDY}", code="bad_database_url") from error
    driver = DRIVERS.get(parsed.drivername)
    if driver is None:
        told = f"--database-url: {parsed.drivername} is no database of ours: {_REMEDY}"
        raise BadRequest(told, code="bad_database_url")
    if driver == "sqlite" and parsed.database in {None, "", ":memory:"}:
        told = "--database-url: SQLite in memory forgets all: write sqlite:////FILE"
        raise BadRequest(told, code="bad_database_url")
    return parsed.set(drivername=driver)


def place_of(url: URL) -> str:
    """Host and database, or the file, for a message."""
    if url.get_backend_name() == "sqlite":
        return str(url.database)
    host = url.host or str(url.query.get("host", "localhost"))
    port = "" if url.port is None else f":{url.port}"
    return f"{host}{port}/{url.database or ''}"


def reason_of(error: BaseException | None) -> str:
    """The first line of what the driver said, or what kind of error it was."""
    said = str(getattr(error, "orig", None) or error or "").strip().splitlines()
    return said[0] if said else type(error).__name__
