"""One exposition of many processes: each family once, each sample with the `replica` that it came from.

The texts are our own (`serving.metrics.render`), so they are taken line by line and not parsed into objects: that is
what keeps a scrape of many replicas off the gateway's processor.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from serving.bounded import OTHER

LABEL = "replica"
TENANT = "tenant"
_LABELS = re.compile(r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\]|\\.)*)",?')
_ESCAPES = str.maketrans({"\\": r"\\", '"': r"\"", "\n": r"\n"})


@dataclass
class _Family:
    kind: str
    head: tuple[str, ...]
    samples: list[str] = field(default_factory=list)


def merge(texts: Mapping[str, str], tenant: str | None = None) -> str:
    """The texts of the replicas as one; what a family is for is told once, in the first one's words.

    `tenant` is the only one whose own samples are told (None: everybody's): those labelled with another one, or with
    `other`, which is several, are left out. A tenant that the counters do not tell apart so has none.

    Raises `ValueError` where two processes use one name for different kinds of metric, or a line belongs to no family.
    """
    families: dict[str, _Family] = {}
    for replica, text in texts.items():
        stamp = f'{LABEL}="{replica.translate(_ESCAPES)}"'
        family, helped = None, ""
        for line in text.split("\n"):  # and not `splitlines`: a label may hold what it takes for the end of a line
            if line.startswith("# HELP "):
                helped = line
            elif line.startswith("# TYPE "):
                family = _opened(families, line, helped)
            elif line and not line.startswith("#"):
                if family is None:
                    raise ValueError(f"{line!r} of {replica} comes before any family")
                if tenant is None or _may_see(tenant, line):
                    family.samples.append(_stamped(line, stamp))
    return "".join(f"{line}\n" for family in families.values() for line in (*family.head, *family.samples))


def _opened(families: dict[str, _Family], typed: str, helped: str) -> _Family:
    _, _, name, kind = typed.split(" ", 3)
    head = (helped, typed) if helped.startswith(f"# HELP {name} ") else (typed,)
    family = families.setdefault(name, _Family(kind, head))
    if family.kind != kind:
        raise ValueError(f"{name} is a {family.kind} in one process and a {kind} in another")
    return family


def _may_see(tenant: str, line: str) -> bool:
    """Whether a sample is no tenant's, or this one's."""
    if f'{TENANT}="' not in line:  # almost all of them: it costs nothing to let them through
        return True
    at = line.find("{") + 1
    while (label := _LABELS.match(line, at)) is not None:
        if label[1] == TENANT:
            return label[2] == tenant != OTHER
        at = label.end()
    return True


def _stamped(line: str, stamp: str) -> str:
    """A sample with one label more, among the others in the order of the alphabet."""
    opening = line.find("{")
    space = line.find(" ")
    if opening < 0 or space < opening:  # no labels: a brace further on would be none of ours
        return f"{line[:space]}{{{stamp}}}{line[space:]}"
    at = opening + 1
    while (label := _LABELS.match(line, at)) is not None and label[1] < LABEL:
        at = label.end()
    before, after = line[:at], line[at:]
    if before[-1] not in "{,":
        before += ","
    return f"{before}{stamp}{after}" if after.startswith("}") else f"{before}{stamp},{after}"
