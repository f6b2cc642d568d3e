"""A data folder with a registry in it, for the commands that tend what is stored."""

import asyncio

from tests.serving.registry.given import open_registry


def filled(data, *contents):
    """A registry that holds each content as a version of a name of its own; the digests in order."""
    registry = open_registry(data)
    try:
        return [
            asyncio.run(registry.publish(content, f"n{number}")).version.ref.digest
            for number, content in enumerate(contents)
        ]
    finally:
        registry.database.close()


def path_of(data, digest):
    value = digest.removeprefix("sha256:")
    return data / "blobs" / "sha256" / value[:2] / value
