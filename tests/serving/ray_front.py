"""Has Ray write HAProxy's configuration, as it does in a service; run as a script, since Ray reads its settings at import.

python -m tests.serving.ray_front FOLDER PORT [SERVER_PORT... FALLBACK_PORT]

Without servers it is the configuration of a service that is starting: no application is known yet.
"""

import sys
from pathlib import Path

from ray.serve._private.haproxy import BackendConfig, HAProxyApi, HAProxyConfig, ServerConfig
from ray.serve.config import HTTPOptions


def write(folder: Path, port: int, servers: list[int]) -> None:
    config = HAProxyConfig(
        http_options=HTTPOptions(host="127.0.0.1", port=port),
        is_head=True,
        socket_path=str(folder / "a"),
        server_state_base=str(folder),
        server_state_file=str(folder / "s"),
        metrics_socket_path=str(folder / "m"),
    )
    made = HAProxyApi(cfg=config, config_file_path=str(folder / "haproxy.cfg"))
    if servers:
        made.set_backend_configs({"http-chorus": backend(servers)})
    made._generate_config_file_internal()


def backend(servers: list[int]) -> BackendConfig:
    *ports, fallback = servers
    replicas = [ServerConfig(name=f"SERVE_REPLICA_{p}", host="127.0.0.1", port=p) for p in ports]
    last = ServerConfig(name="SERVE_PROXY_ACTOR-fallback", host="127.0.0.1", port=fallback)
    return BackendConfig(name="http-chorus", path_prefix="/", servers=replicas, app_name="chorus", fallback_server=last)


if __name__ == "__main__":
    write(Path(sys.argv[1]), int(sys.argv[2]), [int(port) for port in sys.argv[3:]])
