from collections import Counter

from loadtests.proofs import blob_outage, database_outage, outages
from loadtests.proofs.given import Given
from loadtests.proofs.steady import Sample

SAMPLES = [Sample(float(n), 0.01, "") for n in range(1000)]


def test_all_outages_are_one_proof(tmp_path, monkeypatch):
    refused = Counter({"503 registry_unavailable": 1})
    sql = database_outage.Found(SAMPLES, refused, [0.1], strangers=refused, recovery_s=1.0)
    store = blob_outage.Found(SAMPLES, residents=SAMPLES, healed_s=1.0, damaged=1)
    monkeypatch.setattr(database_outage, "stage_and_run", lambda *_: (sql, sql))
    monkeypatch.setattr(blob_outage, "remote", lambda *_: (store, store))
    monkeypatch.setattr(blob_outage, "local", lambda *_: store)
    told = outages.run(Given(tmp_path, seed=5))
    assert told.holds
    assert told.seed == 5
    assert [kind for kind in told.seen if kind.startswith("store")] == [
        "store stalled",
        "store damaging",
        "store rotten on disk",
    ]
    assert told.seen["database stopped"]["seconds"] == 60.0
