import importlib.util
import shutil

import pytest

from loadtests.proofs.backbones import TEXTS, tiny
from loadtests.proofs.fingerprints import Forge

collect_ignore = []
if not (shutil.which("initdb") or shutil.which("pg_config")) or importlib.util.find_spec("psycopg") is None:
    collect_ignore.append("test_postgres.py")
if not shutil.which("moto_server"):
    collect_ignore.append("test_object_store.py")


@pytest.fixture(scope="session")
def backbone(tmp_path_factory):
    return tiny(tmp_path_factory.mktemp("proofs") / "tiny", seed=3)


@pytest.fixture(scope="session")
def forge(backbone):
    return Forge(backbone, TEXTS, seed=3)
