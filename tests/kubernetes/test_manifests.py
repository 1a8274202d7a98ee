"""The Kubernetes manifests: up to date, valid against the API, and what docs/kubernetes.md says."""

from __future__ import annotations

import copy
import functools
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from spinezoo_serving.settings import ServerSettings
from spinezoo_tools.environments import python_of
from spinezoo_tools.generate import kubernetes
from spinezoo_tools.generate.files import differences, write
from spinezoo_tools.generate.plan import Plan

ROOT = Path(__file__).resolve().parents[2]
BASE = ROOT / "deploy/kubernetes/base"
NETWORKS = sorted(card.parent.name for card in ROOT.glob("services/*/card.yaml"))
PARTS = [*NETWORKS, "gateway", "evaluator"]
OVERLAYS = ("plain", "cpu", "gpu")
VERSIONS = ("1.30", kubernetes_validate.latest_version())

NAME = "app.kubernetes.io/name"

Manifest = dict[str, Any]


PLAN = Plan(ROOT)


def objects(name: str) -> list[Manifest]:
    """The five objects of a part, as kustomize has to render them from the base."""
    return kubernetes.objects(PLAN, PLAN.part(name))


@pytest.fixture(scope="module", autouse=True)
def schemas_read_once() -> Iterator[None]:
    """The validator reads some megabytes of schema for every object; once is enough."""
    utils = kubernetes_validate.utils
    original = utils.schema_contents
    utils.schema_contents = functools.cache(original)
    yield
    utils.schema_contents = original


def read(path: Path) -> list[Manifest]:
    return list(yaml.safe_load_all(path.read_text(encoding="utf-8")))


def render(folder: Path) -> list[Manifest]:
    """What kustomize itself makes of a folder."""
    if program := shutil.which("kustomize"):
        command = [program, "build", str(folder)]
    elif program := shutil.which("kubectl"):
        command = [program, "kustomize", str(folder)]
    else:
        pytest.skip("neither kustomize nor kubectl is on the PATH: overlays cannot be rendered")
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    # A deprecation is a warning here, and a warning is a failure.
    assert "Warning" not in done.stderr
    return list(yaml.safe_load_all(done.stdout))


@pytest.fixture(scope="module", params=OVERLAYS)
def overlay(request: pytest.FixtureRequest) -> tuple[str, list[Manifest]]:
    """Name and manifests of an overlay."""
    return request.param, render(ROOT / "deploy/kubernetes/overlays" / request.param)


def of_kind(manifests: list[Manifest], kind: str) -> dict[str, Manifest]:
    return {each["metadata"]["name"]: each for each in manifests if each["kind"] == kind}


def pods(manifests: list[Manifest]) -> dict[str, Manifest]:
    """Pod templates by the part's name."""
    templates = [each["spec"]["template"] for each in of_kind(manifests, "Deployment").values()]
    return {each["metadata"]["labels"][NAME]: each for each in templates}


def server(pod: Manifest) -> Manifest:
    (container,) = pod["spec"]["containers"]
    return container


def variables(pod: Manifest) -> dict[str, str]:
    return {each["name"]: each.get("value", "") for each in server(pod)["env"]}


# ------------------------------------------------------------------------------ up to date


@functools.cache
def base() -> list[Manifest]:
    """What kustomize makes of the base."""
    return render(BASE)


def key(manifest: Manifest) -> tuple[str, str]:
    return manifest["kind"], manifest["metadata"]["name"]


@pytest.mark.parametrize("name", PARTS)
def test_the_common_base_becomes_the_five_objects_of_every_service(name: str) -> None:
    wanted = {key(each): each for each in objects(name)}
    assert sorted(kind for kind, _ in wanted) == [
        "Deployment", "HorizontalPodAutoscaler", "NetworkPolicy", "PodDisruptionBudget", "Service",
    ]  # fmt: skip
    rendered = {key(each): each for each in base()}
    (settings_name,) = {each[1] for each in rendered if each[1].startswith("spinezoo-settings-")}
    for each, manifest in wanted.items():
        manifest["metadata"]["namespace"] = "spinezoo"
        if manifest["kind"] == "Deployment":
            # kustomize puts a digest of the settings into their name.
            container = server(manifest["spec"]["template"])
            container["envFrom"][0]["configMapRef"]["name"] = settings_name
        assert rendered[each] == manifest


def test_the_base_renders_nothing_else() -> None:
    wanted = {key(each) for name in PARTS for each in objects(name)}
    others = {key(each) for each in base()} - wanted
    kinds = sorted(kind for kind, _ in others)
    assert kinds == ["ConfigMap", "ConfigMap", "Namespace", "NetworkPolicy"]
    assert len(base()) == 5 * len(PARTS) + 4


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of all that the manifests are made from, and of the manifests."""
    for name in NETWORKS:
        (tmp_path / "services" / name).mkdir(parents=True)
        for file in ("card.yaml", "pyproject.toml"):
            shutil.copy(ROOT / "services" / name / file, tmp_path / "services" / name)
    for name in ("gateway", "evaluator"):
        (tmp_path / name).mkdir()
        shutil.copy(ROOT / name / "pyproject.toml", tmp_path / name)
    shutil.copy(ROOT / ".env", tmp_path)
    shutil.copytree(ROOT / "deploy", tmp_path / "deploy")
    return tmp_path


def test_a_sixth_network_without_manifests_is_named_and_gets_them(checkout: Path) -> None:
    folder = checkout / "services/two_words"
    shutil.copytree(checkout / "services/pspnet", folder)
    assert "deploy/kubernetes/base/two_words/kustomization.yaml: absent" in differences(checkout)
    write(checkout)
    assert differences(checkout) == []
    rendered = render(checkout / "deploy/kubernetes/base")
    made = [each for each in rendered if each["metadata"]["name"] == "two-words"]
    assert len(made) == 5
    roster = read(checkout / "deploy/kubernetes/base/roster.yaml")[0]["members"]
    assert {"name": "two_words", "target": "dns:///two-words:50056"} in roster
    for each in made:
        kubernetes_validate.validate(each, VERSIONS[0], strict=True)


def test_a_network_that_left_leaves_no_manifests(checkout: Path) -> None:
    write(checkout)
    shutil.rmtree(checkout / "services/unet")
    assert [line for line in differences(checkout) if "unet" in line] == [
        "deploy/kubernetes/base/unet/kustomization.yaml: nothing makes it; delete it",
    ]
    write(checkout)
    assert not (checkout / "deploy/kubernetes/base/unet").exists()
    assert differences(checkout) == []


def test_a_changed_port_and_a_changed_setting_reach_the_manifests(checkout: Path) -> None:
    env = (checkout / ".env").read_text()
    env = env.replace("PSPNET_GRPC_PORT=50053", "PSPNET_GRPC_PORT=51111")
    env += "SPINEZOO_DRAIN_S=90\nSPINEZOO_DECODER_S=7\n"
    (checkout / ".env").write_text(env)
    write(checkout)
    rendered = render(checkout / "deploy/kubernetes/base")
    text = yaml.safe_dump([each for each in rendered if each["metadata"]["name"] == "pspnet"])
    assert "51111" in text
    assert "50053" not in text
    assert "terminationGracePeriodSeconds: 230" in text
    told = (checkout / "deploy/kubernetes/base/settings.env").read_text().splitlines()
    # Ports differ by process, and the rest of `.env` is compose's.
    assert told[1:] == ["SPINEZOO_DRAIN_S=90", "SPINEZOO_DECODER_S=7"]


# ------------------------------------------------------------------------------------ valid


def base_objects() -> Iterator[Any]:
    every = [*kubernetes.namespace(), *(each for name in PARTS for each in objects(name))]
    for each in every:
        yield pytest.param(each, id=f"{each['kind']}-{each['metadata']['name']}")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("manifest", list(base_objects()))
def test_every_object_of_the_base_is_valid(manifest: Manifest, version: str) -> None:
    kubernetes_validate.validate(manifest, version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
def test_every_rendered_object_is_valid(overlay: tuple[str, list[Manifest]], version: str) -> None:
    for manifest in overlay[1]:
        kubernetes_validate.validate(manifest, version, strict=True)


def test_the_check_against_the_api_can_fail() -> None:
    manifest = objects("pspnet")[0]
    wrong = copy.deepcopy(manifest)
    wrong["spec"]["template"]["spec"]["terminationGraceSeconds"] = 5
    with pytest.raises(kubernetes_validate.ValidationError, match="terminationGraceSeconds"):
        kubernetes_validate.validate(wrong, VERSIONS[0], strict=True)
    # The oldest version that we promise is also the oldest that knows all fields.
    with pytest.raises(kubernetes_validate.ValidationError, match="sleep"):
        kubernetes_validate.validate(objects("gateway")[0], "1.28", strict=True)


def test_everything_that_is_referred_to_is_there(overlay: tuple[str, list[Manifest]]) -> None:
    _, manifests = overlay
    configs = of_kind(manifests, "ConfigMap")
    deployments = of_kind(manifests, "Deployment")
    labels = [each["metadata"]["labels"] for each in pods(manifests).values()]
    assert sorted(pods(manifests)) == sorted(PARTS)
    for deployment in deployments.values():
        pod = deployment["spec"]["template"]
        container = server(pod)
        assert deployment["spec"]["selector"]["matchLabels"].items() <= (
            pod["metadata"]["labels"].items()
        )
        mounted = {each["name"] for each in container["volumeMounts"]}
        assert mounted == {each["name"] for each in pod["spec"]["volumes"]}
        for volume in pod["spec"]["volumes"]:
            if "configMap" in volume:
                assert volume["configMap"]["name"] in configs
        for source in container["envFrom"]:
            assert source["configMapRef"]["name"] in configs
        ports = {each["name"]: each["containerPort"] for each in container["ports"]}
        for kind in ("startupProbe", "readinessProbe", "livenessProbe"):
            probe = container[kind]
            if "grpc" in probe:
                assert probe["grpc"]["port"] == ports["grpc"]
            else:
                assert probe["httpGet"]["port"] == "http"
        environment = variables(pod)
        assert environment["SPINEZOO_GRPC_PORT"] == str(ports["grpc"])
        assert environment["SPINEZOO_HTTP_PORT"] == str(ports["http"])
    for kind in ("Service", "PodDisruptionBudget", "NetworkPolicy", "HorizontalPodAutoscaler"):
        found = of_kind(manifests, kind)
        found.pop("default-deny", None)
        assert sorted(found) == sorted(deployments)
        for name, each in found.items():
            spec = each["spec"]
            if kind == "HorizontalPodAutoscaler":
                assert spec["scaleTargetRef"]["name"] == name
                assert 1 <= spec["minReplicas"] < spec["maxReplicas"]
                continue
            selector = spec.get("selector") or spec["podSelector"]
            selector = selector.get("matchLabels", selector)
            picked = [each for each in labels if selector.items() <= each.items()]
            assert [each[NAME].replace("_", "-") for each in picked] == [name]
    assert {each["metadata"].get("namespace") for each in manifests} == {None, "spinezoo"}


# --------------------------------------------------------------------------------- hardened


def test_every_pod_meets_the_restricted_profile(overlay: tuple[str, list[Manifest]]) -> None:
    _, manifests = overlay
    (namespace,) = of_kind(manifests, "Namespace").values()
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    for pod in pods(manifests).values():
        spec, container = pod["spec"], server(pod)
        for key in ("hostNetwork", "hostPID", "hostIPC", "initContainers", "hostUsers"):
            assert key not in spec
        assert spec["securityContext"]["runAsNonRoot"] is True
        assert spec["securityContext"]["runAsUser"] == 10001
        assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        assert spec["automountServiceAccountToken"] is False
        assert spec["enableServiceLinks"] is False
        assert container["securityContext"] == {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }
        for volume in spec["volumes"]:
            (kind,) = set(volume) - {"name"}
            assert kind in ("emptyDir", "configMap", "secret")
            if kind == "emptyDir":
                assert volume["emptyDir"]["sizeLimit"]
        for port in container["ports"]:
            assert "hostPort" not in port
        limits, requests = (container["resources"][key] for key in ("limits", "requests"))
        assert {"cpu", "memory", "ephemeral-storage"} <= set(limits)
        assert {"cpu", "memory", "ephemeral-storage"} <= set(requests)


def test_a_pod_has_longer_to_end_than_its_server_drains() -> None:
    drain_s = ServerSettings().drain_s
    for name in PARTS:
        deployment = objects(name)[0]
        spec = deployment["spec"]["template"]["spec"]
        slept_s = server({"spec": spec})["lifecycle"]["preStop"]["sleep"]["seconds"]
        if name in NETWORKS:
            # Until no DNS answer of 30 s names the pod any more; and gRPC asks every 30 s at most.
            assert slept_s > 30
        assert deployment["spec"]["minReadySeconds"] > 30
        # Both faces of a member may drain one after the other.
        assert spec["terminationGracePeriodSeconds"] > 2 * drain_s + slept_s
        assert deployment["spec"]["strategy"]["rollingUpdate"]["maxUnavailable"] == 0


def test_network_policies_let_in_the_gateway_prometheus_and_clients_only() -> None:
    default = read(BASE / "namespace.yaml")[1]
    assert default["spec"] == {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}
    ports = {}
    for name in PARTS:
        deployment, *rest = objects(name)
        listed = server(deployment["spec"]["template"])["ports"]
        ports[name] = {each["name"]: each["containerPort"] for each in listed}
        spec = next(each for each in rest if each["kind"] == "NetworkPolicy")["spec"]
        assert spec["policyTypes"] == ["Ingress", "Egress"]
        calls, scrapes = spec["ingress"]
        assert calls["ports"] == [{"protocol": "TCP", "port": ports[name]["grpc"]}]
        assert scrapes["ports"] == [{"protocol": "TCP", "port": ports[name]["http"]}]
        # One peer with both selectors: Prometheus' pods in that namespace, not either.
        (peer,) = scrapes["from"]
        assert set(peer) == {"namespaceSelector", "podSelector"}
        if name in NETWORKS:
            assert [each["podSelector"]["matchLabels"][NAME] for each in calls["from"]] == [
                "gateway"
            ]
        else:
            assert all("spinezoo-client" in str(each) for each in calls["from"])
        if name != "gateway":
            assert spec["egress"] == []
    gateway = next(
        each for each in objects("gateway") if each["kind"] == "NetworkPolicy"
    )["spec"]["egress"]  # fmt: skip
    *members, dns = gateway
    assert {each["port"] for each in dns["ports"]} == {53}
    reached = {
        each["to"][0]["podSelector"]["matchLabels"][NAME]: each["ports"][0]["port"]
        for each in members
    }
    assert reached == {name: ports[name]["grpc"] for name in NETWORKS}


# ------------------------------------------------------------------------- services, roster


def test_members_are_headless_and_hide_pods_that_are_not_ready() -> None:
    for name in NETWORKS:
        spec = next(each for each in objects(name) if each["kind"] == "Service")["spec"]
        assert spec["clusterIP"] == "None"
        assert spec["publishNotReadyAddresses"] is False
    for name in ("gateway", "evaluator"):
        spec = next(each for each in objects(name) if each["kind"] == "Service")["spec"]
        assert "clusterIP" not in spec


def test_the_gateway_reads_the_roster_and_finds_every_service() -> None:
    python = python_of(ROOT, ROOT / "gateway")
    if not python.exists():
        pytest.skip("the gateway is not set up: run `make setup`")
    code = (
        "import pathlib, sys; from spinezoo_gateway.roster import load_roster\n"
        "for m in load_roster(pathlib.Path(sys.argv[1]), {}).members: print(m.name, m.target)"
    )
    done = subprocess.run(
        [python, "-c", code, BASE / "roster.yaml"], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    found = dict(line.split() for line in done.stdout.splitlines())
    services = {
        name: next(each for each in objects(name) if each["kind"] == "Service") for name in NETWORKS
    }
    assert found == {
        name: f"dns:///{each['metadata']['name']}:{each['spec']['ports'][0]['port']}"
        for name, each in services.items()
    }


def test_the_rosters_name_is_fixed_and_the_settings_name_is_not(
    overlay: tuple[str, list[Manifest]],
) -> None:
    """A changed roster is followed by the running gateway; a changed setting rolls the pods."""
    name, manifests = overlay
    configs = of_kind(manifests, "ConfigMap")
    assert "spinezoo-roster" in configs
    (hashed,) = set(configs) - {"spinezoo-roster"}
    assert hashed.startswith("spinezoo-settings-")
    data = configs[hashed]["data"]
    assert data == {"SPINEZOO_DEVICE": "cuda" if name == "gpu" else "cpu"}


# --------------------------------------------------------------------------------- overlays


def test_tls_is_on_in_cpu_and_gpu_and_the_probes_follow(
    overlay: tuple[str, list[Manifest]],
) -> None:
    name, manifests = overlay
    for part, pod in pods(manifests).items():
        container, environment = server(pod), variables(pod)
        probes = [container[kind] for kind in ("startupProbe", "readinessProbe", "livenessProbe")]
        secrets = {
            each["secret"]["secretName"] for each in pod["spec"]["volumes"] if "secret" in each
        }
        if name == "plain":
            assert all("grpc" in probe for probe in probes)
            assert not secrets
            assert not [key for key in environment if "TLS" in key or "TOKEN" in key]
            continue
        # Kubernetes' own gRPC probe cannot speak TLS.
        assert [probe["httpGet"]["path"] for probe in probes] == ["/readyz", "/readyz", "/livez"]
        assert not [probe for probe in probes if "grpc" in probe]
        assert environment["SPINEZOO_TLS"] == ("mutual" if part in NETWORKS else "server")
        folder = next(
            each["mountPath"] for each in container["volumeMounts"] if each["name"] == "tls"
        )
        for key, file in (("CERT", "tls.crt"), ("KEY", "tls.key"), ("CA", "ca.crt")):
            assert environment[f"SPINEZOO_TLS_{key}"] == f"{folder}/{file}"
        assert environment.get("SPINEZOO_CLIENT_TLS") == ("mutual" if part == "gateway" else None)
        wanted = {f"spinezoo-{part.replace('_', '-')}-tls"}
        if part in ("gateway", "evaluator"):
            wanted.add("spinezoo-tokens")
            assert environment["SPINEZOO_TOKENS"] == "/etc/spinezoo/tokens/tokens"
        assert secrets == wanted


def test_the_servers_accept_what_the_tls_component_sets() -> None:
    module = pytest.importorskip(
        "spinezoo_serving.security", reason="this contract has no TLS settings"
    )
    for part in PARTS:
        file = "member" if part in NETWORKS else part
        (patch,) = read(ROOT / f"deploy/kubernetes/components/tls/{file}.yaml")
        environment = variables(patch["spec"]["template"])
        security = module.ServerSecurity.from_env(environment)
        assert security.tls.value == ("mutual" if part in NETWORKS else "server")
        assert {security.certificate.path.name, security.key.path.name} == {"tls.crt", "tls.key"}


def test_gpu_gives_every_network_one_gpu_and_nobody_else_any(
    overlay: tuple[str, list[Manifest]],
) -> None:
    name, manifests = overlay
    scalers = of_kind(manifests, "HorizontalPodAutoscaler")
    for part, pod in pods(manifests).items():
        resources = server(pod)["resources"]
        with_gpu = name == "gpu" and part in NETWORKS
        for kind in ("limits", "requests"):
            assert resources[kind].get("nvidia.com/gpu") == (1 if with_gpu else None)
        assert ("tolerations" in pod["spec"]) == with_gpu
        assert ("nodeSelector" in pod["spec"]) == with_gpu
        assert ("CUDA_CACHE_MAXSIZE" in variables(pod)) == with_gpu
        # The patch adds to what the base says.
        assert {"cpu", "memory", "ephemeral-storage"} <= set(resources["limits"])
        if with_gpu:
            assert scalers[part.replace("_", "-")]["spec"]["maxReplicas"] == 2


def test_cert_manager_issues_a_certificate_for_every_secret(checkout: Path) -> None:
    folder = checkout / "deploy/kubernetes/overlays/issued"
    folder.mkdir()
    (folder / "kustomization.yaml").write_text(
        yaml.safe_dump(
            {
                "apiVersion": "kustomize.config.k8s.io/v1beta1",
                "kind": "Kustomization",
                "resources": ["../cpu"],
                "components": ["../../components/cert-manager"],
            }
        )
    )
    manifests = render(folder)
    issued = {
        each["spec"]["secretName"]: each for each in of_kind(manifests, "Certificate").values()
    }
    issuers = of_kind(manifests, "Issuer")
    assert all(each["spec"]["issuerRef"]["name"] in issuers for each in issued.values())
    services = of_kind(manifests, "Service")
    for pod in pods(manifests).values():
        name = pod["metadata"]["labels"][NAME]
        for volume in pod["spec"]["volumes"]:
            if volume["name"] == "tls":
                spec = issued[volume["secret"]["secretName"]]["spec"]
                # The name in the gateway's roster is the name that it checks.
                assert name.replace("_", "-") in spec["dnsNames"]
                assert name.replace("_", "-") in services
                assert ("client auth" in spec["usages"]) == (name == "gateway")
    assert {each["metadata"]["namespace"] for each in issued.values()} == {"spinezoo"}


def test_images_are_replaced_by_kustomize(checkout: Path) -> None:
    folder = checkout / "deploy/kubernetes/overlays/mine"
    folder.mkdir()
    (folder / "kustomization.yaml").write_text(
        yaml.safe_dump(
            {
                "apiVersion": "kustomize.config.k8s.io/v1beta1",
                "kind": "Kustomization",
                "resources": ["../cpu"],
                "images": [
                    {
                        "name": f"spinezoo/{name}",
                        "newName": f"registry.example/zoo/{name}",
                        "digest": "sha256:" + "0" * 64,
                    }
                    for name in PARTS
                ],
            }
        )
    )
    for name, pod in pods(render(folder)).items():
        assert server(pod)["image"] == f"registry.example/zoo/{name}@sha256:{'0' * 64}"
