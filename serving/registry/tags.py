"""Tags: what operators say of a version that its immutable manifest does not."""

from collections.abc import Mapping

from sqlalchemy import delete, insert

from adapters.errors import InvalidName
from adapters.refs import parse_name
from serving.errors import Fault, Unprocessable
from serving.registry.change import Change, columns
from serving.registry.lookup import name_is
from serving.registry.records import NameRecord, Version
from serving.registry.tables import TAGS

MAX_TAGS = 32
MAX_VALUE = 256  # characters


def replace_tags(change: Change, record: NameRecord, version: Version, tags: Mapping[str, str]) -> None:
    """Give a version these tags and no others; the same ones again change nothing."""
    if dict(version.tags) == dict(tags):
        return
    number = version.ref.version
    change.execute(delete(TAGS).where(name_is(TAGS, record.key), TAGS.c.version == number))
    rows = [{**columns(record.key), "version": number, "tag": tag, "value": tags[tag]} for tag in sorted(tags)]
    if rows:
        change.execute(insert(TAGS).values(rows))
    subject = f"{record.name}@{number}"
    change.touch(record.key, "tag", subject=subject, before=dict(version.tags), after=dict(tags))


def refuse_bad_tags(tags: Mapping[str, str]) -> None:
    """Raise `Unprocessable` with every reason: too many, keys that are no names, values that are long or not printable."""
    faults = [Fault("/tags", f"a version has at most {MAX_TAGS} tags")] if len(tags) > MAX_TAGS else []
    for tag, value in tags.items():
        try:
            parse_name(tag)
        except InvalidName as error:
            faults.append(Fault("/tags", str(error)))
        if len(value) > MAX_VALUE or not value.isprintable():
            faults.append(Fault(f"/tags/{tag}", f"the value of a tag has at most {MAX_VALUE} printable characters"))
    if faults:
        raise Unprocessable("; ".join(fault.detail for fault in faults), code="invalid_tags", faults=tuple(faults))
