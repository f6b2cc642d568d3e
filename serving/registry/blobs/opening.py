"""From the settings to a blob store: the data folder, or the bucket that `blob_url` names."""

from serving.config import ServiceSettings
from serving.errors import BadRequest
from serving.registry.blobs.local import LocalBlobs
from serving.registry.blobs.store import Blobs

_DEADLINES = 20.0  # after as many, no bucket carries out a request that it had once


def open_blobs(settings: ServiceSettings) -> Blobs:
    """The blob store of a service.

    Credentials and endpoints come from the environment, under the names that the cloud's own tools use
    (`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, `GOOGLE_APPLICATION_CREDENTIALS`, `AZURE_STORAGE_ACCOUNT_NAME`, ...).
    Raises `BadRequest` for a URL that names no store, or where the extra `cloud` is not installed.
    """
    root = settings.data / "blobs"
    if not settings.blob_url:
        return LocalBlobs(root)
    try:
        from serving.registry.blobs.bucket import ObstoreBucket  # noqa: PLC0415 - its library is an extra
    except ModuleNotFoundError as error:
        raise BadRequest("blob_url needs the extra `cloud`: pip install 'chorus[cloud]'") from error
    from serving.registry.blobs.objects import SETTLE_S, ObjectBlobs  # noqa: PLC0415 - only where it is asked for

    bucket = ObstoreBucket.open(settings.blob_url, settings.blob_deadline_s)
    settle_s = max(SETTLE_S, _DEADLINES * settings.blob_deadline_s)
    return ObjectBlobs(bucket, root, budget=settings.cache.disk_bytes, settle_s=settle_s)
