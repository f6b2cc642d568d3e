"""Honest small fakes of every protocol in `serving.api.services`: in memory, without Ray, torch or SQL.

`make_fakes(tmp_path)` gives a keyless loopback service on a tiny backbone; `Fakes.publish(...)` puts a package in.
"""

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np

from adapters.architectures.profile import BackboneProfile
from adapters.manifest import Manifest
from adapters.refs import AdapterRef
from serving.api.services import Services
from serving.config import Limits
from serving.engine.reduce import reduce
from serving.errors import Forbidden, NotFound, Unauthenticated
from serving.images.decoding import decoded
from serving.images.frame import Frame
from serving.metrics import GatewayMetrics
from serving.registry.records import Published, Resolved, Space
from serving.request import Holding, Reduced, Refusal, ReplicaReport, Reply, Result, Ticket, Timing
from serving.tenancy.keys import SCOPES, Caller, KeyRecord, NewKey
from tests.serving.fake_registry import NOW, FakeControl, FakeDirectory
from tests.serving.fake_tenancy import FakeTenants, FakeTrail
from tests.serving.samples import PROFILE, adapter_manifest, head_spec, package_bytes, tokenizer_json


@dataclass
class FakeKeyring:
    """Keys in memory; without any, every caller is tenant `default` with all scopes."""

    held: dict[str, KeyRecord] = field(default_factory=dict)  # secret -> record

    async def authenticate(self, token: str | None) -> Caller:
        if self.keyless:
            return Caller("default", SCOPES, "keyless")
        record = self.held.get(token or "")
        if record is None or record.revoked:
            raise Unauthenticated("send a key: Authorization: Bearer ck_...")
        return Caller(record.tenant, record.scopes, record.key_id)

    @property
    def keyless(self) -> bool:
        return not self.held

    async def create(
        self, tenant: str, scopes: frozenset[str], label: str, *, expires: float | None = None, by: str = "api"
    ) -> NewKey:
        return self.add(tenant, *scopes, label=label, expires=expires)

    async def rotate(
        self, tenant: str, key_id: str, grace_s: float, *, by: str = "api", within: frozenset[str] | None = None
    ) -> NewKey:
        secret, record = self._find(tenant, key_id, within)
        self.held[secret] = replace(record, expires=NOW + grace_s)
        return self.add(tenant, *record.scopes, label=record.label)

    async def keys(self, tenant: str) -> Sequence[KeyRecord]:
        return [record for record in self.held.values() if record.tenant == tenant]

    async def revoke(self, tenant: str, key_id: str, *, by: str = "api", within: frozenset[str] | None = None) -> None:
        secret, record = self._find(tenant, key_id, within)
        self.held[secret] = replace(record, revoked=True)

    def _find(self, tenant: str, key_id: str, within: frozenset[str] | None) -> tuple[str, KeyRecord]:
        for secret, record in self.held.items():
            if (record.tenant, record.key_id) == (tenant, key_id):
                if within is not None and not record.scopes <= within:
                    raise Forbidden(f"the key {key_id!r} may do more than the one that asks")
                return secret, record
        raise NotFound(f"no key {key_id!r}", code="key_not_found")

    def add(self, tenant: str, *scopes: str, label: str = "", expires: float | None = None) -> NewKey:
        key_id = f"k{len(self.held) + 1}"
        secret = f"ck_{key_id}_{tenant}"
        self.held[secret] = KeyRecord(key_id, tenant, frozenset(scopes), label, NOW, revoked=False, expires=expires)
        return NewKey(self.held[secret], secret)


@dataclass
class FakeSubmit:
    """An engine whose outputs are a function of the row alone; `refuse` maps a row's index to a refusal."""

    directory: FakeDirectory
    refuse: dict[int, Refusal] = field(default_factory=dict)
    error: Exception | None = None
    seen: list[Ticket] = field(default_factory=list)
    timeouts: list[float] = field(default_factory=list)

    async def submit(self, tickets: Sequence[Ticket], timeout_s: float) -> Sequence[Reply]:
        self.seen.extend(tickets)
        self.timeouts.append(timeout_s)
        if self.error is not None:
            raise self.error
        return [
            replace(self.refuse[i], ticket=ticket.id) if i in self.refuse else self._answer(ticket)
            for i, ticket in enumerate(tickets)
        ]

    def _answer(self, ticket: Ticket) -> Result:
        tiers = {ref.digest: "device" for ref in ticket.refs}
        share = self.share(ticket)
        return Result(ticket.id, share.output, Timing(1.5, 0.5, 2.0), tiers, "engine-1", 1, share.indices)

    def output(self, ticket: Ticket) -> np.ndarray:
        """What the row gives, reduced as it asked."""
        return self.share(ticket).output

    def share(self, ticket: Ticket) -> Reduced:
        """What the row gives: seeded by its ids and by everything that it names."""
        names = "".join(ref.digest for ref in ticket.refs).encode()
        pixels = b"" if ticket.pixels is None else ticket.pixels.tobytes()
        seed = hashlib.sha256(names + ticket.input_ids.tobytes() + pixels).digest()
        generator = np.random.default_rng(int.from_bytes(seed[:8], "little"))
        output = generator.normal(size=self._shape(ticket)).astype(np.float32)
        return reduce(output, ticket.reduction, np.arange(len(ticket.input_ids)))

    def _shape(self, ticket: Ticket) -> tuple[int, ...]:
        rows = len(ticket.input_ids)
        if ticket.reduction.output == "hidden_state":
            return (rows, PROFILE.geometry.hidden_size)
        assert ticket.head is not None
        head = self.directory.by_digest(ticket.head).manifest.head
        assert head is not None
        if head.pooling != "tokens":
            return (len(head.labels) or 1,)
        if head.type == "dependency_parsing":
            assert ticket.word_starts is not None
            words = len(ticket.word_starts) - 1
            return (words, words + 1, 1 + len(head.labels))
        positions = ticket.reduction.positions
        return (rows if positions is None else len(positions), head.vocabulary or len(head.labels))


@dataclass
class FakeFleet:
    """Engines on paper: what they report is given; preload and unload are noted in `calls`."""

    told: list[ReplicaReport] = field(default_factory=list)
    texts: dict[str, str] = field(default_factory=dict)
    is_ready: bool = True
    calls: list[tuple[str, AdapterRef, bool]] = field(default_factory=list)
    live_gateways: int = 1
    needed: int = 100  # device bytes of any package
    free: int = 1 << 30  # device bytes that pins may take
    held: dict[str, Holding] = field(default_factory=dict)

    async def reports(self) -> Sequence[ReplicaReport]:
        return self.told

    async def preload(self, resolved: Resolved, *, pinned: bool) -> dict[str, str]:
        self.calls.append(("preload", resolved.version.ref, pinned))
        return {"engine-1": "device", "engine-2": "device"}

    async def room(self, refs: Sequence[AdapterRef]) -> Sequence[tuple[str, int, int]]:
        return [(replica, self.needed * len(refs), self.free) for replica in ("engine-1", "engine-2")]

    async def unload(self, resolved: Resolved) -> dict[str, str]:
        self.calls.append(("unload", resolved.version.ref, False))
        return {"engine-1": "disk", "engine-2": "disk"}

    async def retire(self, refs: Sequence[AdapterRef]) -> None:
        self.calls += [("retire", ref, False) for ref in refs]

    def gateways(self) -> int:
        return self.live_gateways

    def holdings(self) -> Mapping[str, Holding]:
        return self.held

    async def metrics(self) -> dict[str, str]:
        return self.texts

    async def ready(self) -> bool:
        return self.is_ready


@dataclass(frozen=True)
class Fakes:
    """The services, and the fakes behind them by their own types."""

    services: Services
    directory: FakeDirectory
    control: FakeControl
    keyring: FakeKeyring
    submit: FakeSubmit
    fleet: FakeFleet
    tenants: FakeTenants

    async def publish(
        self,
        name: str,
        manifest: Manifest | None = None,
        *,
        tenant: str = "default",
        space: Space = "adapter",
        promote: bool = False,
        tensors: Mapping[str, np.ndarray] | None = None,
    ) -> Published:
        """Publish a package; `manifest` defaults to an adapter with a NEG/POS head."""
        data = package_bytes(manifest or adapter_manifest(head_spec()), tensors)
        return await self.control.publish(Caller(tenant, SCOPES, "test"), space, name, _chunks(data), promote=promote)


def make_fakes(folder: Path, *, limits: Limits | None = None, profile: BackboneProfile = PROFILE) -> Fakes:
    """A keyless loopback service with an empty registry; blobs go to `folder`. Images are decoded here, without a cap."""

    async def decode(data: bytes) -> np.ndarray:
        image = profile.geometry.image
        assert image is not None
        pixels = decoded(data, Frame(*image[1:], 2), services.limits.max_image_pixels)
        return np.frombuffer(pixels, np.uint8).reshape(*image[1:], 3)

    limits = limits or Limits(max_tokens=profile.geometry.max_tokens)
    directory = FakeDirectory()
    control, keyring = FakeControl(directory, folder, limits), FakeKeyring()
    submit, fleet, tenants = FakeSubmit(directory), FakeFleet(), FakeTenants()
    services = Services(
        profile=profile,
        limits=limits,
        tokenizer_json=None if profile.geometry.image else tokenizer_json(),
        decode=decode,
        directory=directory,
        control=control,
        keyring=keyring,
        tenants=tenants,
        trail=FakeTrail(control),
        submit=submit,
        fleet=fleet,
        metrics=GatewayMetrics(),
        replica="gateway-1",
    )
    return Fakes(services, directory, control, keyring, submit, fleet, tenants)


async def _chunks(data: bytes) -> AsyncIterator[bytes]:
    for start in range(0, len(data), 1 << 16):
        yield data[start : start + (1 << 16)]
