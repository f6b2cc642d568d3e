"""The image and its company: as far as can be told without Docker."""

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import typer.main
import yaml
from packaging.requirements import Requirement

from serving.api.auth import OPEN_PATHS
from serving.cli import app

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
COMPOSE = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
INSTRUCTIONS = {
    *("ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK"),
    *("LABEL", "RUN", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR"),
}
SERVICE_KEYS = {
    *("build", "cap_drop", "command", "depends_on", "environment", "healthcheck", "image", "init", "ports"),
    *("read_only", "restart", "secrets", "security_opt", "shm_size", "stop_grace_period", "tmpfs", "volumes"),
}


def instructions() -> list[tuple[str, str]]:
    """(instruction, its words) of the Dockerfile, continued lines joined."""
    text = re.sub(r"^\s*#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.MULTILINE)
    joined = re.sub(r"\\\n\s*", "", text)
    return [tuple(line.split(maxsplit=1)) for line in joined.splitlines() if line.strip()]


def stage(name: str | None) -> list[tuple[str, str]]:
    """The instructions of a stage; None is the last one."""
    stages: list[list[tuple[str, str]]] = []
    names = []
    for instruction, words in instructions():
        if instruction == "FROM":
            stages.append([])
            names.append(words.partition(" AS ")[2] or None)
        if stages:
            stages[-1].append((instruction, words))
    return stages[names.index(name)]


def words_of(name: str, of: str | None = None) -> list[str]:
    return [words for instruction, words in stage(of) if instruction == name]


def serve_options() -> set[str]:
    command = typer.main.get_command(app).commands["serve"]
    return {option for parameter in command.params for option in parameter.opts}


def variables_of_the_code() -> set[str]:
    """Every CHORUS_ variable that a command takes, or the code reads."""
    pattern = re.compile(r"\"(CHORUS_[A-Z_]+)\"")
    return {name for path in (ROOT / "serving").rglob("*.py") for name in pattern.findall(path.read_text())}


def test_every_instruction_is_one():
    found = instructions()
    assert {name for name, _ in found} <= INSTRUCTIONS
    assert all(words for _, words in found)


def test_everything_that_is_copied_in_exists_and_reaches_the_build():
    kept = (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines()
    for words in words_of("COPY", "build"):
        *sources, _ = words.split()
        for source in sources:
            assert (ROOT / source).exists(), source
            assert f"!{source}" in kept, source
    for line in kept:
        if line.startswith("!"):
            assert (ROOT / line[1:]).exists(), line


def test_what_the_wheel_is_made_of_is_copied_in():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    copied = {source for words in words_of("COPY", "build") for source in words.split()[:-1]}
    packages = project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    assert {"pyproject.toml", project["project"]["readme"], "LICENSE", *packages} <= copied


def test_every_package_of_the_image_is_pinned():
    pinned = {line.partition("==")[0].lower() for line in (DEPLOY / "constraints.txt").read_text().splitlines()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    (extras,) = [words.partition("=")[2] for words in words_of("ARG", "build") if words.startswith("EXTRAS=")]
    wanted = [*project["dependencies"]]
    for extra in extras.split(","):
        wanted += project["optional-dependencies"][extra]
    names = {Requirement(requirement).name.lower().replace("_", "-") for requirement in wanted}
    assert names - {name.replace("_", "-") for name in pinned} == set()


def test_the_image_runs_as_nobody_and_holds_no_model_and_no_cuda():
    assert words_of("USER") == ["10001:10001"]
    assert any("--uid 10001" in words for words in words_of("RUN"))
    assert "VOLUME" in dict(stage(None))
    order = [name for name, _ in stage(None)]
    assert order.index("USER") > max(i for i, name in enumerate(order) if name in ("RUN", "COPY"))
    assert "TORCH_INDEX=https://download.pytorch.org/whl/cpu" in words_of("ARG", "build")
    bases = [words.partition(" AS ")[0] for name, words in instructions() if name == "FROM"]
    assert bases == ["python:${PYTHON}"] * 2
    (python,) = [words for name, words in instructions() if name == "ARG" and words.startswith("PYTHON=")]
    assert re.fullmatch(r"PYTHON=3\.11\.\d+-slim-bookworm", python)


def test_its_command_is_one_of_ours():
    entry, command = json.loads(words_of("ENTRYPOINT")[0]), json.loads(words_of("CMD")[0])
    assert entry == ["chorus"]
    assert command[0] == "serve"
    assert {word for word in command if word.startswith("--")} <= serve_options()
    assert "--data" in command
    assert command[command.index("--data") + 1] in words_of("VOLUME")


def test_its_health_is_asked_of_a_path_that_needs_no_key_at_the_port_that_it_exposes():
    (check,) = words_of("HEALTHCHECK")
    command = json.loads(check[check.index("[") :])
    assert command[:2] == ["python", "-c"]
    compile(command[2], "healthcheck", "exec")
    port, path = re.search(r"http://127\.0\.0\.1:(\d+)(/\w+)'", command[2]).groups()
    assert path in OPEN_PATHS
    assert words_of("EXPOSE") == [port]


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_a_service_of_the_composition_has_a_pinned_image_and_known_keys(name):
    service = COMPOSE["services"][name]
    assert service.keys() <= SERVICE_KEYS
    image, _, tag = service["image"].partition(":")
    assert re.search(r"\d+\.\d+", tag), f"{image} is not pinned"
    assert service["restart"] == "unless-stopped"


@pytest.mark.parametrize("name", COMPOSE["services"])
def test_a_service_is_reachable_from_this_machine_alone(name):
    for port in COMPOSE["services"][name].get("ports", ()):
        assert re.fullmatch(r"127\.0\.0\.1:(\d+):\1", port)


def test_everything_that_a_service_mounts_or_waits_for_is_there():
    for name, service in COMPOSE["services"].items():
        for volume in service.get("volumes", ()):
            source = re.split(r":(?=/)", volume)[0]
            if source.startswith("./"):
                assert (DEPLOY / source).exists(), source
            elif not source.startswith("${"):
                assert source in COMPOSE["volumes"], source
        assert set(service.get("secrets", ())) <= COMPOSE["secrets"].keys(), name
        assert set(service.get("depends_on", ())) <= COMPOSE["services"].keys(), name
    build = COMPOSE["services"]["chorus"]["build"]
    assert (DEPLOY / build["context"]).resolve() == ROOT
    assert (ROOT / build["dockerfile"]).is_file()


def test_no_secret_is_in_the_file():
    text = (DEPLOY / "compose.yaml").read_text()
    told = {
        line.partition("=")[0] for line in (DEPLOY / "env.example").read_text().splitlines() if re.match("[A-Z]", line)
    }
    asked = set(re.findall(r"\$\{([A-Z_]+)", text))
    from_outside = {secret["environment"] for secret in COMPOSE["secrets"].values()}
    assert asked | from_outside == told
    for name, service in COMPOSE["services"].items():
        for variable, value in service.get("environment", {}).items():
            if "PASSWORD" in variable:
                assert value.startswith("/run/secrets/"), (name, variable)
    password = re.search(r"//chorus:([^@]*)@", text)
    assert password is not None
    assert password[1].startswith("${POSTGRES_PASSWORD:?")
    assert all(
        line.endswith("=")
        for line in (DEPLOY / "env.example").read_text().splitlines()
        if "PASS" in line or "KEY=" in line
    )


def test_what_holds_the_secrets_is_ignored_by_git():
    assert "/deploy/.env" in (ROOT / ".gitignore").read_text().splitlines()


def test_every_option_and_variable_of_the_service_exists():
    service = COMPOSE["services"]["chorus"]
    assert service["command"][0] == "serve"
    for word in service["command"][1:]:
        assert word.partition("=")[0] in serve_options(), word
    assert service["environment"].keys() <= variables_of_the_code()


def test_every_variable_of_chorus_that_these_files_name_exists_in_the_code():
    texts = [
        path for path in DEPLOY.rglob("*") if path.is_file() and path.suffix in ("", ".md", ".yaml", ".yml", ".example")
    ]
    told = {
        name
        for path in texts
        if not {"data", "samples"} & set(path.relative_to(DEPLOY).parts)
        for name in re.findall(r"\bCHORUS_[A-Z_]+\b", path.read_text(errors="replace"))
    }
    assert told
    assert told <= variables_of_the_code()


def test_the_service_is_given_longer_to_end_than_it_drains():
    service = COMPOSE["services"]["chorus"]
    (drain,) = [float(word.partition("=")[2]) for word in service["command"] if word.startswith("--drain=")]
    assert float(service["stop_grace_period"].removesuffix("s")) >= 2 * drain


def test_nothing_is_written_but_where_it_may_be():
    service = COMPOSE["services"]["chorus"]
    assert service["read_only"] is True
    assert service["cap_drop"] == ["ALL"]
    places = [entry.partition(":")[0] for entry in service["tmpfs"]]
    assert "/tmp" in places
    assert words_of("WORKDIR")[0] in places
    assert "exec" in next(entry for entry in service["tmpfs"] if entry.startswith("/tmp")).split(":")[1].split(",")


def test_prometheus_scrapes_the_service_with_the_key_that_it_is_given():
    (scrape,) = yaml.safe_load((DEPLOY / "prometheus" / "prometheus.yml").read_text())["scrape_configs"]
    host, _, port = scrape["static_configs"][0]["targets"][0].partition(":")
    assert host in COMPOSE["services"]
    assert port == words_of("EXPOSE")[0]
    secret = scrape["authorization"]["credentials_file"].removeprefix("/run/secrets/")
    assert secret in COMPOSE["services"]["prometheus"]["secrets"]
    mounted = dict(volume.split(":")[:2] for volume in COMPOSE["services"]["prometheus"]["volumes"])
    assert mounted["./prometheus/rules"] == "/etc/prometheus/rules"
    assert f"--config.file={mounted['./prometheus/prometheus.yml']}" in COMPOSE["services"]["prometheus"]["command"]


def test_every_first_key_that_is_told_can_name_tenants_and_make_their_keys():
    for path in (DEPLOY / "README.md", DEPLOY.parent / "README.md"):
        told = re.findall(r"key create --data .*?--scopes (\S+)", path.read_text())
        firsts = [scopes.strip("`").split(",") for scopes in told if scopes != "metrics"]
        assert firsts, path
        assert all({"operate", "admin"} <= set(scopes) for scopes in firsts), path


def test_what_the_readme_says_to_type_exists():
    known = typer.main.get_command(app).commands
    lines = re.findall(
        r"^ {4}(?:docker compose .*? |kubectl .*? -- )?chorus (.*)$",
        (DEPLOY / "README.md").read_text(),
        re.MULTILINE,
    )
    assert any(line.startswith("key create") for line in lines)
    for line in lines:
        group, found = shlex.split(line, comments=True), known
        command = None
        while group and group[0] in found:
            command = found[group.pop(0)]
            found = getattr(command, "commands", {})
        assert command is not None, line
        options = {option for parameter in command.params for option in parameter.opts}
        assert {word.partition("=")[0] for word in group if word.startswith("--")} <= options, line
