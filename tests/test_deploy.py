"""What is in ``deploy/`` for several nodes fits together, and the bridge takes the settings in it.

The files were also checked against the schemas of Compose and of Kubernetes 1.30 and 1.37 (``check-jsonschema``,
``kubernetes-validate --strict``), which are too large to be installed for a test.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml
from yarl import URL

from bridge.config.settings import read_settings, setting_names
from bridge.version import __version__
from tests.conftest import Running

DEPLOY = Path(__file__).parent.parent / "deploy"
DOCKERFILE = (DEPLOY / "Dockerfile").read_text()
SECRETS = {"ACCESS_TOKEN": "a" * 64, "CLUSTER_KEY": "b" * 64, "REDIS_URL": "redis://redis:6379/0"}
_VARIABLE = re.compile(r"\$\{(\w+)(?::[-?]([^}]*))?\}")


def image() -> dict[str, str]:
    """Which settings the image has."""
    found = dict(re.findall(r"^ENV (\w+)=(\S+)$", DOCKERFILE, re.MULTILINE))
    del found["PATH"]
    return found


def compose(name: str) -> dict[str, Any]:
    """A compose file as compose sees it in a shell that has the secrets only."""

    def value(found: re.Match[str]) -> str:
        return SECRETS.get(found[1]) or found[2] or ""

    loaded: dict[str, Any] = yaml.safe_load(_VARIABLE.sub(value, (DEPLOY / name).read_text()))
    return loaded


def kubernetes() -> dict[tuple[str, str], dict[str, Any]]:
    """All objects by kind and name."""
    loaded = yaml.safe_load_all((DEPLOY / "cluster/kubernetes.yaml").read_text())
    return {(each["kind"], each["metadata"]["name"]): each for each in loaded}


def container() -> dict[str, Any]:
    [found] = kubernetes()["StatefulSet", "mcp-bridge"]["spec"]["template"]["spec"]["containers"]
    return dict(found)


def pod(name: str) -> dict[str, str]:
    """The environment of a pod of this name: what is named there may be used behind it."""
    environ = {**image(), **SECRETS}
    for each in container()["env"]:
        text = name if "valueFrom" in each else each["value"]
        environ[each["name"]] = re.sub(r"\$\((\w+)\)", lambda found: environ[found[1]], text)
    return environ


def environments() -> dict[str, dict[str, str]]:
    found = {}
    for name, service in compose("cluster/compose.yaml")["services"].items():
        if "build" in service:
            found[f"compose, {name}"] = {**image(), **service["environment"]}
    found["compose alone"] = {**image(), **compose("compose.yaml")["services"]["bridge"]["environment"]}
    for number in range(kubernetes()["StatefulSet", "mcp-bridge"]["spec"]["replicas"]):
        found[f"kubernetes, {number}"] = pod(f"mcp-bridge-{number}")
    return found


def test_the_image_has_what_the_lock_names_which_is_all_extras() -> None:
    copied = [words.split()[:-1] for words in re.findall(r"^COPY (?!--)(.*)$", DOCKERFILE, re.MULTILINE)]
    lock = re.findall(r"--require-hashes -r (\S+)", DOCKERFILE)
    assert lock == ["requirements/run.txt"]
    ignored = (DEPLOY.parent / ".dockerignore").read_text().splitlines()
    for name in itertools.chain(*copied):
        assert (DEPLOY.parent / name).exists(), name
        assert f"!{name.partition('/')[0]}" in ignored
    pinned = set(re.findall(r"^([\w.-]+)==", (DEPLOY.parent / lock[0]).read_text(), re.MULTILINE))
    project = tomllib.loads((DEPLOY.parent / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *itertools.chain(*project["optional-dependencies"].values())]
    assert {re.match(r"[\w.-]+", each)[0].lower() for each in wanted} <= pinned  # type: ignore[index]


async def test_the_image_looks_whether_the_bridge_is_ready_at_its_port(bridge: Running) -> None:
    [check] = re.findall(r"^  CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
    _, *words = json.loads(check)
    codes = []
    for port in (str(URL(bridge.url).port), "9"):
        env = os.environ | {"PORT": port}
        process = await asyncio.create_subprocess_exec(sys.executable, *words, env=env, stderr=subprocess.DEVNULL)
        codes.append(await process.wait())
    assert codes == [0, 1]


def test_what_the_bridge_keeps_in_a_container_is_in_volumes_that_it_may_write() -> None:
    made = re.findall(r"/srv/mcp-bridge/(\S+)", re.findall(r"install -d -o bridge (.*)$", DOCKERFILE, re.MULTILINE)[0])
    kept = [each.partition("/srv/mcp-bridge/")[2] for each in compose("compose.yaml")["services"]["bridge"]["volumes"]]
    settings = read_settings({})
    for folder in (settings.log_dir, settings.session_dir):
        assert str(folder) in made
        assert str(folder) in kept


@pytest.mark.parametrize("where", environments())
def test_the_bridge_takes_these_settings(where: str) -> None:
    environ = environments()[where]
    assert set(environ) <= set(setting_names())
    settings = read_settings(environ)
    assert not settings.is_loopback
    if settings.cluster is not None:
        assert settings.node_url is not None
        assert URL(settings.node_url).port == settings.port
        assert environ["NODE_ID"] == settings.node_name == str(URL(settings.node_url).host).partition(".")[0]


def test_nodes_of_compose_are_whom_nginx_asks() -> None:
    services = compose("cluster/compose.yaml")["services"]
    nodes = {name for name, service in services.items() if "build" in service}
    asked = re.findall(r"server (\S+):3000 ", (DEPLOY / "cluster/nginx.conf").read_text())
    assert sorted(asked) == sorted(nodes) == sorted(services["nginx"]["depends_on"])
    assert {services[name]["environment"]["NODE_ID"] for name in nodes} == nodes


@pytest.mark.parametrize("name", ["compose.yaml", "cluster/compose.yaml"])
def test_what_compose_mounts_is_there(name: str) -> None:
    found = compose(name)
    for service in found["services"].values():
        for mounted in service.get("volumes", []):
            source = mounted.partition(":")[0]
            assert source in found["volumes"] or (DEPLOY / name).parent.joinpath(source).resolve().is_file(), mounted
        if "build" in service:
            context = (DEPLOY / name).parent / service["build"]["context"]
            assert (context / service["build"]["dockerfile"]).resolve() == DEPLOY / "Dockerfile"
            longest = 2 * read_settings({}).shutdown_timeout
            assert int(service["stop_grace_period"].removesuffix("s")) > longest


def test_objects_of_kubernetes_name_each_other_rightly() -> None:
    objects = kubernetes()
    for (kind, name), each in objects.items():
        if kind == "StatefulSet":
            labels = each["spec"]["template"]["metadata"]["labels"]
            assert each["spec"]["selector"]["matchLabels"].items() <= labels.items()
            assert ("Service", each["spec"]["serviceName"]) in objects
            pod_spec = each["spec"]["template"]["spec"]
            claims = {claim["metadata"]["name"] for claim in each["spec"].get("volumeClaimTemplates", [])}
            volumes = {volume["name"] for volume in pod_spec.get("volumes", [])} | claims
            mounts = [mount for one in pod_spec["containers"] for mount in one["volumeMounts"]]
            assert {mount["name"] for mount in mounts} == volumes, name
        elif kind == "Service":
            [stateful] = [
                other
                for (other_kind, _), other in objects.items()
                if other_kind == "StatefulSet"
                and each["spec"]["selector"].items() <= other["spec"]["template"]["metadata"]["labels"].items()
            ]
            [port] = each["spec"]["ports"]
            [one] = stateful["spec"]["template"]["spec"]["containers"]
            assert port.get("targetPort", port["port"]) in [open_["containerPort"] for open_ in one["ports"]], name
    headless = objects["Service", "mcp-bridge-nodes"]["spec"]
    assert (headless["clusterIP"], headless["publishNotReadyAddresses"]) == ("None", True)
    spec = objects["StatefulSet", "mcp-bridge"]["spec"]
    assert str(URL(pod("mcp-bridge-0")["NODE_URL"]).host) == f"mcp-bridge-0.{spec['serviceName']}"
    assert spec["template"]["spec"]["terminationGracePeriodSeconds"] > 2 * read_settings({}).shutdown_timeout


def test_the_pod_is_what_the_image_is() -> None:
    own = container()
    assert own["image"] == f"mcp-bridge:{__version__}"
    [folder] = re.findall(r"^WORKDIR (/srv\S+)$", DOCKERFILE, re.MULTILINE)
    assert {mount["mountPath"] for mount in own["volumeMounts"]} == {f"{folder}/servers.json", f"{folder}/logs"}
    for probe in ("startupProbe", "readinessProbe", "livenessProbe"):
        asked = own[probe]["httpGet"]
        assert asked["path"] in ("/readyz", "/livez")
        assert asked["port"] in [port["name"] for port in own["ports"]]
        assert json.dumps(asked["httpHeaders"]) == '[{"name": "Host", "value": "localhost"}]'
