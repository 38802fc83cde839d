"""What the files in deploy/ name exists: commands, options, files, ports and variables."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from starlette.routing import Route

from sora_dagster.cli.main import cli
from sora_dagster.environment.declarations import settings_table
from sora_dagster.storage import StorageRoot
from sora_dagster.web.webhook import create_app
from tests.deploy.topology import DEPLOY, ROOT, compose_services, image_environment

DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
SERVICES = compose_services()
# Names of other programs and of AWS's tools.
FOREIGN_VARIABLES = {
    *("POSTGRES_USER", "POSTGRES_PASSWORD", "POSTGRES_DB"),
    *("MINIO_ROOT_USER", "MINIO_ROOT_PASSWORD"),
    *("AWS_ENDPOINT_URL", "AWS_ALLOW_HTTP", "AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"),
    *("AWS_REGION",),
}
# The variable that deploy/dagster.yaml reads.
OWN_VARIABLES = {"DAGSTER_POSTGRES_URL"}


def helm_values() -> dict[str, Any]:
    values: dict[str, Any] = yaml.safe_load((DEPLOY / "helm/values.yaml").read_text())
    return values


def manifests() -> dict[str, dict[str, Any]]:
    documents = yaml.safe_load_all((DEPLOY / "helm/receiver.yaml").read_text())
    return {document["kind"]: document for document in documents}


def commands() -> Iterator[tuple[str, list[str]]]:
    """The commands of our image, by the name of what runs them."""
    for name, service in SERVICES.items():
        if service["image"] == "sora-dagster":
            yield name, service["command"]
            if "healthcheck" in service:
                yield f"health of {name}", service["healthcheck"]["test"][1:]
    [container] = manifests()["Deployment"]["spec"]["template"]["spec"]["containers"]
    yield "receiver on Kubernetes", container["args"]
    [default] = re.findall(r"^CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    yield "the image", yaml.safe_load(default)


COMMANDS = dict(commands())


def of_program(*programs: str) -> list[str]:
    return [name for name, command in COMMANDS.items() if command[0] in programs]


@pytest.mark.parametrize("name", of_program("sora-dagster"))
def test_commands_and_options_of_ours_exist(name: str) -> None:
    _, command, *arguments = COMMANDS[name]
    found = cli.commands[command]
    assert isinstance(found, click.Command)
    found.make_context(command, list(arguments), resilient_parsing=False)


@pytest.mark.parametrize("name", of_program("dagster", "dagster-webserver", "dagster-daemon"))
def test_commands_and_options_of_dagster_exist(name: str) -> None:
    program, *arguments = COMMANDS[name]
    words = [word for word in arguments if not word.startswith("-")]
    printed = subprocess.run(
        [str(Path(sys.executable).parent / program), *words, "--help"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    for option in arguments:
        if option.startswith("--"):
            assert re.search(rf"{option.partition('=')[0]}\b", printed), option


def test_each_port_is_that_of_a_command_and_of_the_image() -> None:
    exposed = set(re.findall(r"\d+", re.findall(r"^EXPOSE (.*)$", DOCKERFILE, re.MULTILINE)[0]))
    listening = {
        name: re.findall(r"--port=(\d+)", " ".join(command))[0]
        for name, command in COMMANDS.items()
        if "--port=" in " ".join(command)
    }
    assert exposed == {
        port for name, port in listening.items() if name not in ("sandbox", "health of code")
    }
    text = (DEPLOY / "compose.yaml").read_text()
    for service, port in re.findall(r"//(\w+):(\d+)", text):
        if service == "s3":
            assert f"--address=:{port}" in SERVICES["s3"]["command"]
        elif service != "localhost":
            assert listening[service] == port
    for service in SERVICES.values():
        for mapping in service.get("ports", []):
            host, _, container = mapping.partition(":")
            assert host == container
            assert container in listening.values()
    for port in re.findall(r"localhost:(\d+)", text):
        assert port in listening.values()
    [server] = yaml.safe_load((DEPLOY / "workspace.yaml").read_text())["load_from"]
    assert listening[server["grpc_server"]["host"]] == str(server["grpc_server"]["port"])
    [container] = manifests()["Deployment"]["spec"]["template"]["spec"]["containers"]
    assert container["ports"] == [
        {"name": "http", "containerPort": int(listening["receiver on Kubernetes"])}
    ]


def test_each_variable_is_a_setting() -> None:
    settings = {variable.name for variable in settings_table()}
    compose = {name for service in SERVICES.values() for name in service.get("environment", {})}
    [container] = manifests()["Deployment"]["spec"]["template"]["spec"]["containers"]
    [deployment] = helm_values()["dagster-user-deployments"]["deployments"]
    kubernetes = {entry["name"] for entry in [*container["env"], *deployment["env"]]}
    assert compose - settings == FOREIGN_VARIABLES | OWN_VARIABLES
    assert kubernetes <= settings
    secrets = re.findall(r"--from-literal=(\w+)", (DEPLOY / "helm/values.yaml").read_text())
    assert {"RUNWARE_API_KEY", "SORA_WEBHOOK_SECRET"} == set(secrets)
    storage = yaml.safe_load((DEPLOY / "dagster.yaml").read_text())["storage"]
    assert storage == {"postgres": {"postgres_url": {"env": "DAGSTER_POSTGRES_URL"}}}


def test_a_code_location_gives_up_its_calls_before_it_is_killed() -> None:
    grace_seconds = int(image_environment()["DAGSTER_GRPC_SHUTDOWN_GRACE_PERIOD"])
    assert grace_seconds < int(SERVICES["code"]["stop_grace_period"].removesuffix("s"))


def test_probes_ask_for_paths_of_the_receiver(tmp_path: Path) -> None:
    app = create_app(StorageRoot(tmp_path), "s" * 32)
    paths = {route.path for route in app.routes if isinstance(route, Route)}
    [container] = manifests()["Deployment"]["spec"]["template"]["spec"]["containers"]
    probes = {container[f"{kind}Probe"]["httpGet"]["path"] for kind in ("liveness", "readiness")}
    [health] = re.findall(r"8788(/\w+)", " ".join(COMMANDS["health of receiver"]))
    [rule] = manifests()["Ingress"]["spec"]["rules"]
    [path] = rule["http"]["paths"]
    annotations = manifests()["Deployment"]["spec"]["template"]["metadata"]["annotations"]
    assert {*probes, health, path["path"], annotations["prometheus.io/path"]} <= paths
    assert annotations["prometheus.io/port"] == str(container["ports"][0]["containerPort"])
    assert path["backend"]["service"]["name"] == manifests()["Service"]["metadata"]["name"]


def test_the_image_has_the_files_and_the_extras_that_it_names() -> None:
    for source in re.findall(r"^COPY (.+) \S+$", DOCKERFILE, re.MULTILINE):
        for name in source.split():
            assert (ROOT / name).exists(), name
    [extras] = re.findall(r'"\.\[([\w,]+)\]"', DOCKERFILE)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert set(extras.split(",")) == set(project["optional-dependencies"]) - {"all", "dev"}
    for service in SERVICES.values():
        if prompts := service.get("environment", {}).get("SORA_PROMPTS"):
            assert (ROOT / Path(prompts).relative_to("/app")).exists()
    assert re.findall(r"^USER (\w+)$", DOCKERFILE, re.MULTILINE) == ["sora"]
    pod = manifests()["Deployment"]["spec"]["template"]["spec"]
    assert f"--uid {pod['securityContext']['runAsUser']}" in DOCKERFILE
