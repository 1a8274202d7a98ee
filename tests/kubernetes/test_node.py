"""The DICOM node on Kubernetes: valid, locked down like the zoo, and with all that it refers to."""

from __future__ import annotations

import subprocess
from pathlib import Path

import kubernetes_validate
import pytest
import yaml
from spinezoo_tools.environments import python_of

from kubernetes.test_manifests import ROOT, VERSIONS, Manifest, of_kind, render

FOLDER = ROOT / "deploy/pacs/kubernetes"
OVERLAYS = ("plain", "cpu", "gpu")


@pytest.fixture(scope="module", params=OVERLAYS)
def rendered(request: pytest.FixtureRequest) -> tuple[str, list[Manifest]]:
    """Name and manifests of an overlay."""
    return request.param, render(FOLDER / request.param)


def container_of(manifests: list[Manifest]) -> tuple[Manifest, Manifest]:
    """The node's pod and its container."""
    (node,) = of_kind(manifests, "StatefulSet").values()
    pod = node["spec"]["template"]
    (container,) = pod["spec"]["containers"]
    return pod, container


@pytest.mark.parametrize("version", VERSIONS)
def test_every_object_is_valid(rendered: tuple[str, list[Manifest]], version: str) -> None:
    for manifest in rendered[1]:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_the_zoo_stands_beside_it_unchanged(rendered: tuple[str, list[Manifest]]) -> None:
    name, manifests = rendered
    own = [
        each for each in manifests if each["metadata"]["name"].startswith(("pacs", "spinezoo-pacs"))
    ]
    assert sorted(each["kind"] for each in own) == [
        "ConfigMap", "NetworkPolicy", "Service", "StatefulSet",
    ]  # fmt: skip
    zoo = render(ROOT / "deploy/kubernetes/overlays" / name)
    assert [each for each in manifests if each not in own] == zoo
    assert {each["metadata"]["namespace"] for each in own} == {"spinezoo"}


def test_all_that_it_refers_to_is_there_or_a_named_secret(
    rendered: tuple[str, list[Manifest]],
) -> None:
    name, manifests = rendered
    pod, container = container_of(manifests)
    (node,) = of_kind(manifests, "StatefulSet").values()
    claims = {each["metadata"]["name"] for each in node["spec"]["volumeClaimTemplates"]}
    volumes = {each["name"]: each for each in pod["spec"]["volumes"]}
    assert {each["name"] for each in container["volumeMounts"]} == claims | set(volumes)
    assert volumes["settings"]["configMap"]["name"] in of_kind(manifests, "ConfigMap")
    secrets = {each["secret"]["secretName"] for each in volumes.values() if "secret" in each}
    page = (ROOT / "docs/pacs.md").read_text()
    for secret in secrets:
        assert f"create secret generic {secret} " in page
    labels = pod["metadata"]["labels"]
    for kind in ("Service", "NetworkPolicy"):
        spec = of_kind(manifests, kind)["pacs"]["spec"]
        selector = spec.get("selector") or spec["podSelector"]["matchLabels"]
        assert selector.items() <= labels.items()
    assert labels["spinezoo-client"] == "true"
    variables = {each["name"] for each in container["env"]}
    assert ("SPINEZOO_TOKEN_FILE" in variables) == (name != "plain")


def test_it_meets_the_restricted_profile(rendered: tuple[str, list[Manifest]]) -> None:
    pod, container = container_of(rendered[1])
    spec = pod["spec"]
    for key in ("hostNetwork", "hostPID", "hostIPC", "initContainers", "hostUsers"):
        assert key not in spec
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert spec["automountServiceAccountToken"] is False
    assert spec["enableServiceLinks"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    for values in container["resources"].values():
        assert {"cpu", "memory", "ephemeral-storage"} <= set(values)
    (node,) = of_kind(rendered[1], "StatefulSet").values()
    assert node["spec"]["replicas"] == 1, "a spool belongs to one process"


def test_the_node_takes_its_settings(rendered: tuple[str, list[Manifest]], tmp_path: Path) -> None:
    _, manifests = rendered
    pod, container = container_of(manifests)
    volume = next(each for each in pod["spec"]["volumes"] if each["name"] == "settings")
    text = of_kind(manifests, "ConfigMap")[volume["configMap"]["name"]]["data"]["node.yaml"]
    settings = yaml.safe_load(text)
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    assert (settings["port"], settings["http_port"]) == (ports["dicom"], ports["http"])
    mounts = [each["mountPath"] for each in container["volumeMounts"]]
    for key in ("spool", "spool_key"):
        assert any(settings[key].startswith(f"{mount}/") for mount in mounts), key
    policy = of_kind(manifests, "NetworkPolicy")["pacs"]["spec"]["egress"]
    allowed = {port["port"] for rule in policy for port in rule["ports"]}
    assert {peer["port"] for peer in settings["peers"]} <= allowed
    python = python_of(ROOT, ROOT / "pacs")
    if not python.exists():
        pytest.skip("the node is not set up: run `make setup`")
    path = tmp_path / "node.yaml"
    path.write_text(text)
    code = (
        "import pathlib, sys; from spinezoo_pacs.node.settings import read_settings\n"
        "print(read_settings(pathlib.Path(sys.argv[1])).gateway)"
    )
    done = subprocess.run([python, "-c", code, path], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert done.stdout.strip() == "dns:///gateway:50050"
