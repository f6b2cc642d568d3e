"""A real server process that speaks S3, on loopback: moto, which the extra `dev` brings."""

import socket
import subprocess
import sys
import time
import urllib.request
import uuid
from pathlib import Path

PROGRAM = Path(sys.executable).with_name("moto_server")


class S3:
    """One server; `bucket()` makes an empty bucket and returns its URL. `environment` is what clients need."""

    def __init__(self) -> None:
        assert PROGRAM.is_file(), "moto_server is not installed: deploy/venv installs the extra `dev`"
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.endpoint = f"http://127.0.0.1:{self.port}"
        self.environment = {
            "AWS_ENDPOINT_URL": self.endpoint,
            "AWS_ACCESS_KEY_ID": "test",
            "AWS_SECRET_ACCESS_KEY": "test",
            "AWS_REGION": "us-east-1",
        }
        self._process = subprocess.Popen(
            [PROGRAM, "-H", "127.0.0.1", "-p", str(self.port)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self._wait()

    def bucket(self) -> str:
        name = f"b{uuid.uuid4().hex}"
        urllib.request.urlopen(urllib.request.Request(f"{self.endpoint}/{name}", method="PUT"), timeout=10).close()
        return f"s3://{name}/blobs"

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(30)

    def _wait(self) -> None:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and self._process.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
            except OSError:
                time.sleep(0.05)
            else:
                return
        self._process.kill()
        raise AssertionError("the S3 server did not come up")
