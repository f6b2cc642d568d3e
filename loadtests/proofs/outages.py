"""What is known is served without the database and without the blob store, and nothing rotten is ever served."""

from loadtests.proofs import blob_outage, database_outage
from loadtests.proofs.backbones import TEXTS, tiny
from loadtests.proofs.evidence import Evidence
from loadtests.proofs.fingerprints import Forge
from loadtests.proofs.given import Given


def run(given: Given) -> Evidence:
    """One outage after another, each on a service of its own."""
    backbone = tiny(given.folder / "backbone", given.seed)
    forge = Forge(backbone, TEXTS, given.seed)
    size = given.sized(database_outage.WHOLE, database_outage.QUICK)
    stopped, hanging = database_outage.stage_and_run(backbone, given.folder / "sql", forge, size)
    stores = given.sized(blob_outage.WHOLE, blob_outage.QUICK)
    stalled, damaged = blob_outage.remote(backbone, given.folder / "remote", forge, stores)
    rotten = blob_outage.local(backbone, given.folder / "local", forge, stores)
    figures = (*database_outage.figures(size, stopped, hanging), *blob_outage.figures(stores, stalled, damaged, rotten))
    seen = {
        "database stopped": {"seconds": size.stopped_s, **database_outage.seen(stopped)},
        "database hanging": {"seconds": size.stalled_s, **database_outage.seen(hanging)},
        "store stalled": {"seconds": stores.stalled_s, **blob_outage.seen(stalled)},
        "store damaging": {"seconds": stores.rotten_s, **blob_outage.seen(damaged)},
        "store rotten on disk": {"seconds": stores.rotten_s, **blob_outage.seen(rotten)},
    }
    return Evidence("outages", given.seed, figures, seen)
