"""A real server process that speaks S3, on loopback, behind a proxy that can stall and damage: `moto_server`."""

import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

from loadtests.proofs.proxy import Proxy
from loadtests.proofs.stage import StageFailed
from serving.premises import free_ports

START_S = 60.0
BUCKET = "packages"


class ObjectStore:
    """One empty bucket. `url` and `environment` are what a service needs to find it."""

    def __init__(self) -> None:
        program = _program()
        (port,) = free_ports(1)
        self._process = subprocess.Popen(  # noqa: S603 - ours
            [program, "-H", "127.0.0.1", "-p", str(port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._wait(port)
        self.proxy = Proxy(port)
        self.url = f"s3://{BUCKET}/blobs"
        self.environment = {
            "AWS_ENDPOINT_URL": f"http://127.0.0.1:{self.proxy.port}",
            "AWS_ACCESS_KEY_ID": "proof",
            "AWS_SECRET_ACCESS_KEY": "proof",
            "AWS_REGION": "us-east-1",
        }
        made = urllib.request.Request(f"http://127.0.0.1:{port}/{BUCKET}", method="PUT")
        urllib.request.urlopen(made, timeout=10).close()  # noqa: S310 - loopback

    def close(self) -> None:
        """End the server and the proxy."""
        self.proxy.close()
        self._process.terminate()
        self._process.wait(START_S)

    def _wait(self, port: int) -> None:
        deadline = time.monotonic() + START_S
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        self._process.kill()
        raise StageFailed("the S3 server did not come up")


def _program() -> str:
    own = Path(sys.executable).with_name("moto_server")
    found = str(own) if own.is_file() else shutil.which("moto_server")
    if found is None:
        raise StageFailed("this proof needs an S3 server: pip install 'moto[server]'")
    return found
