"""What is deployed on several nodes: Serve's own schema, the code that it names, and what Kubernetes is asked for."""

import re
from pathlib import Path

import pytest
import yaml
from ray.serve._private import constants
from ray.serve.schema import ServeDeploySchema

from serving import cluster
from serving.api.auth import OPEN_PATHS
from serving.config import ServiceSettings
from serving.deployment import finishing_s
from serving.premises import everywhere
from tests.deploy.test_containers import words_of

DEPLOY = Path(__file__).resolve().parents[2] / "deploy"
CONFIG = yaml.safe_load((DEPLOY / "serve-config.yaml").read_text())
SERVICE, BUDGET, POLICY = yaml.safe_load_all((DEPLOY / "kuberay" / "rayservice.yaml").read_text())
RAY = SERVICE["spec"]["rayClusterConfig"]
GROUPS = [RAY["headGroupSpec"], *RAY["workerGroupSpecs"]]
PODS = [group["template"]["spec"] for group in GROUPS]
MARGIN_S = 10  # for Ray to end what it started
RAYLET = (52365, "/api/local_raylet_healthz")  # Ray's dashboard agent


def containers():
    return [container for pod in PODS for container in pod["containers"]]


def variables(container: dict) -> dict[str, str]:
    return {entry["name"]: entry["value"] for entry in container["env"]}


def test_the_configuration_is_one_of_ray_serve():
    read = ServeDeploySchema.model_validate(CONFIG)
    (application,) = read.applications
    assert application.route_prefix == "/"
    assert read.logging_config.enable_access_log is False


def test_nothing_is_set_that_kuberay_does_not_read_any_more():
    assert not {"serviceUnhealthySecondThreshold", "deploymentUnhealthySecondThreshold"} & SERVICE["spec"].keys()


def test_kubernetes_deploys_the_same_as_serve_deploy():
    assert yaml.safe_load(SERVICE["spec"]["serveConfigV2"]) == CONFIG


def test_the_builder_that_it_names_takes_the_arguments_that_it_gives(tmp_path):
    (application,) = CONFIG["applications"]
    module, _, name = application["import_path"].partition(":")
    assert (module, getattr(cluster, name)) == ("serving.cluster", cluster.build)
    secret = tmp_path / "database_url"
    secret.write_text("postgresql+psycopg://chorus:x@postgres/chorus\n")
    settings = cluster.Arguments(**application["args"] | {"database_url_file": secret}).settings()
    assert settings.engines == application["args"]["engines"]
    assert settings.drain_s == application["args"]["drain"]
    assert settings.cache.device_bytes == 1 << 30


def test_the_application_is_called_as_the_code_calls_it():
    from serving.replicas.surroundings import APPLICATION

    assert CONFIG["applications"][0]["name"] == APPLICATION


@pytest.mark.parametrize("container", containers(), ids=lambda container: str(len(container)))
def test_every_node_has_the_part_of_the_environment_that_it_can_have_and_no_more(container, tmp_path):
    threads = int(container["resources"]["requests"]["cpu"]) // 2  # two engines on a node
    assert variables(container) == everywhere(ServiceSettings(backbone=tmp_path, data=tmp_path), threads)


def test_the_readme_names_every_port_that_only_the_policy_closes():
    ports = {str(constants.RAY_SERVE_HAPROXY_STATS_PORT), str(constants.RAY_SERVE_HAPROXY_METRICS_PORT)}
    ports |= {str(constants.RAY_SERVE_FALLBACK_PROXY_HTTP_PORT), str(constants.RAY_SERVE_DIRECT_INGRESS_MIN_HTTP_PORT)}
    assert ports <= set(re.findall(r"\d{4,5}", (DEPLOY / "README.md").read_text()))


def test_ray_asks_everybody_for_a_token():
    """The operator sets RAY_AUTH_MODE and the token itself; a second value in `env` would be in its way."""
    assert RAY["authOptions"] == {"mode": "token"}
    assert not {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN"} & {name for c in containers() for name in variables(c)}


def test_ray_is_the_version_that_is_pinned():
    (pinned,) = re.findall(r"^ray==(.*)$", (DEPLOY / "constraints.txt").read_text(), re.MULTILINE)
    assert RAY["rayVersion"] == pinned


def test_no_pod_runs_as_root_or_may_become_it():
    for pod in PODS:
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["runAsUser"] == int(words_of("USER")[0].partition(":")[0])
        assert pod["automountServiceAccountToken"] is False
    for container in containers():
        assert container["securityContext"]["allowPrivilegeEscalation"] is False
        assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert container["resources"]["limits"]["memory"]
        assert re.fullmatch(r"chorus:\d+\.\d+\.\d+", container["image"])


def test_every_probe_asks_for_a_port_and_a_path_that_exist():
    asked = set()
    for container in containers():
        assert {"livenessProbe", "readinessProbe"} <= container.keys()
        for name in ("livenessProbe", "readinessProbe", "startupProbe"):
            if name in container:
                get = container[name]["httpGet"]
                asked.add((get["port"], get["path"]))
    http = CONFIG["http_options"]["port"]
    assert asked == {RAYLET, (http, "/livez"), (http, "/readyz")}
    assert {"/livez", "/readyz"} <= OPEN_PATHS
    assert str(http) in words_of("EXPOSE")


def test_everything_that_is_mounted_is_a_volume_and_everything_that_is_named_is_mounted():
    arguments = CONFIG["applications"][0]["args"]
    for pod in PODS:
        volumes = {volume["name"] for volume in pod["volumes"]}
        for container in pod["containers"]:
            assert {mount["name"] for mount in container["volumeMounts"]} == volumes
            places = {mount["mountPath"] for mount in container["volumeMounts"]}
            assert {arguments["backbone"], arguments["data"], "/dev/shm"} <= places
            assert str(Path(arguments["database_url_file"]).parent) in places


def test_secrets_are_named_and_not_held():
    text = (DEPLOY / "kuberay" / "rayservice.yaml").read_text()
    assert "kind: Secret" not in text
    assert "postgresql" not in text
    readme = (DEPLOY / "README.md").read_text()
    for name in ("chorus-registry", "chorus-bucket", "chorus-backbone"):
        assert name in text
        assert name in readme


def test_a_disruption_takes_one_node_at_most_of_those_there_are():
    (workers,) = RAY["workerGroupSpecs"]
    assert BUDGET["spec"]["maxUnavailable"] == 1 < workers["minReplicas"]
    assert BUDGET["spec"]["selector"]["matchLabels"].items() <= workers["template"]["metadata"]["labels"].items()
    assert workers["minReplicas"] <= workers["replicas"] <= workers["maxReplicas"]


def test_the_policy_holds_for_every_pod_and_lets_strangers_in_at_one_port_alone():
    spec = POLICY["spec"]
    assert set(spec["policyTypes"]) == {"Ingress", "Egress"}
    for group in GROUPS:
        assert spec["podSelector"]["matchLabels"].items() <= group["template"]["metadata"]["labels"].items()
    own, clients, operator = spec["ingress"]
    assert own["from"] == [{"podSelector": spec["podSelector"]}]
    assert [entry["port"] for entry in clients["ports"]] == [CONFIG["http_options"]["port"]]
    assert all("ports" in rule for rule in (clients, operator))
    assert operator["from"][0]["podSelector"]["matchLabels"] == {"app.kubernetes.io/name": "kuberay-operator"}
    reached = {entry["port"] for rule in spec["egress"] for entry in rule.get("ports", ())}
    assert reached == {53, 5432, 443, 4318}


def test_a_pod_is_given_longer_to_end_than_gateways_engines_and_the_front_may_take(tmp_path):
    drain = CONFIG["applications"][0]["args"]["drain"]
    settings = ServiceSettings(backbone=tmp_path, data=tmp_path, drain_s=drain)
    assert finishing_s(settings) > settings.limits.max_timeout_ms / 1000
    front = int(everywhere(settings, 1)["RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S"])
    longest = max(drain, finishing_s(settings), front)
    for pod in PODS:
        hooks = [
            container["lifecycle"]["preStop"]["exec"]["command"]
            for container in pod["containers"]
            if "lifecycle" in container
        ]
        before = max((float(seconds) for _, seconds in hooks), default=0.0)
        assert pod["terminationGracePeriodSeconds"] > before + longest + MARGIN_S
