"""What kustomize puts together: one base for all networks, components and overlays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from spinezoo_tools.checkout import FRONT, Service
from spinezoo_tools.generate import kubernetes
from spinezoo_tools.generate.kubernetes import CONFIG_FOLDER, CONTAINER, NAMESPACE, probes
from spinezoo_tools.generate.plan import PREFIX, Part, Plan
from spinezoo_tools.generate.text import HEADER, Manifest, dump

KUBERNETES = Path("deploy/kubernetes")
IS_MEMBER = "app.kubernetes.io/component=member"


def _object(version: str, kind: str, name: str, spec: Manifest) -> Manifest:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": name}, "spec": spec}


def _deployment_patch(name: str, pod: Manifest) -> Manifest:
    return _object("apps/v1", "Deployment", name, {"template": {"spec": pod}})


def _pod_patch(part: Part, container: Manifest, volumes: list[Manifest]) -> Manifest:
    containers = [{"name": CONTAINER, **container}]
    return _deployment_patch(part.host, {"containers": containers, "volumes": volumes})


def _secret(volume: str, secret: str, keys: list[str]) -> Manifest:
    # Naming the keys makes a Secret that lacks one an event of the pod, not a riddle in its log.
    items = [{"key": key, "path": key} for key in keys]
    # For the user's group and nobody else.
    return {
        "name": volume,
        "secret": {"secretName": secret, "defaultMode": 0o440, "items": items},
    }


def tls_patch(part: Part) -> Manifest:
    """TLS for one part: members let in only the gateway's certificate, the front asks for tokens.

    The paths for calls of its own (``SPINEZOO_CLIENT_TLS_*``) default to the server's.
    """
    folder = f"{CONFIG_FOLDER}/tls"
    environment = {
        "SPINEZOO_TLS": "mutual" if part.is_member else "server",
        "SPINEZOO_TLS_CERT": f"{folder}/tls.crt",
        "SPINEZOO_TLS_KEY": f"{folder}/tls.key",
        "SPINEZOO_TLS_CA": f"{folder}/ca.crt",
    }
    if part.name == "gateway":
        environment["SPINEZOO_CLIENT_TLS"] = "mutual"
    container = {
        "env": [{"name": key, "value": value} for key, value in environment.items()],
        **probes(part, tls=True),
        "volumeMounts": [{"name": "tls", "mountPath": folder, "readOnly": True}],
    }
    return _pod_patch(
        part, container, [_secret("tls", part.tls_secret, ["tls.crt", "tls.key", "ca.crt"])]
    )


def tokens_patch(part: Part) -> Manifest:
    """Bearer tokens for callers of the gateway or the evaluator, from a file of hashes."""
    folder = f"{CONFIG_FOLDER}/tokens"
    container = {
        "env": [{"name": "SPINEZOO_TOKENS", "value": f"{folder}/tokens"}],
        "volumeMounts": [{"name": "tokens", "mountPath": folder, "readOnly": True}],
    }
    return _pod_patch(part, container, [_secret("tokens", f"{PREFIX}-tokens", ["tokens"])])


def certificates(plan: Plan) -> list[Manifest]:
    """For cert-manager: a certificate authority of the namespace, and a certificate a part."""
    authority, version = f"{PREFIX}-ca", "cert-manager.io/v1"

    def certificate(name: str, spec: Manifest, issued_by: str) -> Manifest:
        every = {
            "privateKey": {"algorithm": "ECDSA", "size": 256, "rotationPolicy": "Always"},
            "issuerRef": {"name": issued_by, "kind": "Issuer", "group": "cert-manager.io"},
        }
        return _object(version, "Certificate", name, {"secretName": name, **spec, **every})

    made = [
        _object(version, "Issuer", f"{PREFIX}-self-signed", {"selfSigned": {}}),
        certificate(
            authority,
            {"isCA": True, "commonName": "SpineZoo", "duration": "43800h", "renewBefore": "2160h"},
            f"{PREFIX}-self-signed",
        ),
        _object(version, "Issuer", authority, {"ca": {"secretName": authority}}),
    ]
    for part in plan.parts:
        names = [part.host]
        names += [f"{part.host}.{NAMESPACE}{end}" for end in ("", ".svc", ".svc.cluster.local")]
        spec = {
            "commonName": part.host,
            "dnsNames": names,
            "duration": "2160h",
            "renewBefore": "720h",
            # The gateway shows its own to the members.
            "usages": ["server auth", "client auth"] if part.name == "gateway" else ["server auth"],
        }
        made.append(certificate(part.tls_secret, spec, authority))
    return made


# -------------------------------------------------------------------------------- the overlays

GPU_LABEL = "nvidia.com/gpu.present"
"""Node label set by NVIDIA's GPU feature discovery."""


def gpu_patch() -> Manifest:
    """One GPU a member pod; for every Deployment of the component ``member``."""
    container = {
        "name": CONTAINER,
        # Compiled kernels lie below the home, in /tmp, which has a limit.
        "env": [{"name": "CUDA_CACHE_MAXSIZE", "value": str(256 * 2**20)}],
        "resources": {
            # The framework's part on the host grows with CUDA.
            "requests": {"memory": "3Gi", "nvidia.com/gpu": 1},
            "limits": {"memory": "12Gi", "nvidia.com/gpu": 1},
        },
    }
    pod = {
        "nodeSelector": {GPU_LABEL: "true"},
        "tolerations": [{"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}],
        "containers": [container],
    }
    return _deployment_patch("any-member", pod)


def gpu_autoscaler_patch() -> Manifest:
    """GPUs are few: one pod a member, at most two."""
    most = {"minReplicas": 1, "maxReplicas": 2}
    return _object("autoscaling/v2", "HorizontalPodAutoscaler", "any-member", most)


def _kustomization(kind: str, **content: Any) -> Manifest:
    version = "v1alpha1" if kind == "Component" else "v1beta1"
    return {"apiVersion": f"kustomize.config.k8s.io/{version}", "kind": kind, **content}


def _overlay(plan: Plan, *, device: str, secure: bool, **content: Any) -> Manifest:
    components = ["../../components/tls", "../../components/tokens"] if secure else []
    device_setting = {
        "name": f"{PREFIX}-settings",
        "namespace": NAMESPACE,
        "behavior": "merge",
        "literals": [f"SPINEZOO_DEVICE={device}"],
    }
    return _kustomization(
        "Kustomization",
        resources=["../../base"],
        **({"components": components} if components else {}),
        configMapGenerator=[device_setting],
        **content,
    )


def any_member() -> Part:
    """The network that the common base is written for; each member's facts take its place."""
    return Part(Service("member", "services/member", "", "", "0.0.0"), 50000, 8000)


FACTS = "config.kubernetes.io/local-config"
"""Annotation of what kustomize uses and does not give out."""


def member_facts(part: Part) -> Manifest:
    """The kustomization of one network: its facts, and the common base that takes them."""
    facts = {
        "name": part.name,
        "host": part.host,
        "version": part.version,
        "image": part.image,
        "grpc-port": part.grpc_port,
        "http-port": part.http_port,
    }
    return _kustomization(
        "Kustomization",
        configMapGenerator=[
            {
                "name": f"{part.host}-facts",
                "literals": [f"{key}={value}" for key, value in facts.items()],
                "options": {"disableNameSuffixHash": True, "annotations": {FACTS: "true"}},
            }
        ],
        components=["../../member"],
    )


def member_base(plan: Plan) -> dict[str, str]:
    """The common base: the five objects of a network, and where its facts go."""
    container = f"spec.template.spec.containers.[name={CONTAINER}]"
    probe_kinds = ("startupProbe", "readinessProbe", "livenessProbe")
    name, version = "[app.kubernetes.io/name]", "[app.kubernetes.io/version]"
    spread = "spec.template.spec.topologySpreadConstraints.*.labelSelector.matchLabels"
    every = (
        "Deployment", "Service", "HorizontalPodAutoscaler", "PodDisruptionBudget", "NetworkPolicy",
    )  # fmt: skip
    places: dict[str, dict[str, list[str]]] = {
        "name": {kind: [f"metadata.labels.{name}"] for kind in every},
        "host": {kind: ["metadata.name"] for kind in every},
        "version": {kind: [f"metadata.labels.{version}"] for kind in every},
        "image": {"Deployment": [f"{container}.image"]},
        "grpc-port": {
            "Deployment": [
                f"{container}.ports.[name=grpc].containerPort",
                f"{container}.env.[name=SPINEZOO_GRPC_PORT].value",
                *(f"{container}.{kind}.grpc.port" for kind in probe_kinds),
            ],
            "Service": ["spec.ports.[name=grpc].port"],
            "NetworkPolicy": ["spec.ingress.0.ports.0.port"],
        },
        "http-port": {
            "Deployment": [
                f"{container}.ports.[name=http].containerPort",
                f"{container}.env.[name=SPINEZOO_HTTP_PORT].value",
                "spec.template.metadata.annotations.[prometheus.io/port]",
            ],
            "NetworkPolicy": ["spec.ingress.1.ports.0.port"],
        },
    }
    places["name"]["Deployment"] += [
        f"spec.selector.matchLabels.{name}", f"spec.template.metadata.labels.{name}",
        f"{spread}.{name}",
    ]  # fmt: skip
    places["name"]["Service"].append(f"spec.selector.{name}")
    places["name"]["PodDisruptionBudget"].append(f"spec.selector.matchLabels.{name}")
    places["name"]["NetworkPolicy"].append(f"spec.podSelector.matchLabels.{name}")
    places["version"]["Deployment"].append(f"spec.template.metadata.labels.{version}")
    places["host"]["HorizontalPodAutoscaler"].append("spec.scaleTargetRef.name")
    replacements = [
        {
            "source": {"kind": "ConfigMap", "fieldPath": f"data.{fact}"},
            "targets": [
                {"select": {"kind": kind}, "fieldPaths": paths} for kind, paths in targets.items()
            ],
        }
        for fact, targets in places.items()
    ]
    return {
        "member.yaml": dump(*kubernetes.objects(plan, any_member())),
        "kustomization.yaml": dump(
            _kustomization("Component", resources=["member.yaml"], replacements=replacements)
        ),
    }


def _tls_name(part: Part) -> Manifest:
    """The secret of one network in the common TLS patch."""
    secret = {"name": "tls", "secret": {"secretName": part.tls_secret}}
    return _deployment_patch(part.host, {"volumes": [secret]})


def kubernetes_files(plan: Plan) -> dict[Path, str]:
    """Every file below ``deploy/kubernetes``, by its path in the checkout."""
    base, parts = KUBERNETES / "base", plan.parts
    files: dict[Path, str] = {
        base / "namespace.yaml": dump(*kubernetes.namespace()),
        base / "settings.env": HEADER
        + "".join(f"{key}={value}\n" for key, value in plan.settings.items()),
        base / "roster.yaml": dump(kubernetes.roster(plan)),
        base / "kustomization.yaml": dump(
            _kustomization(
                "Kustomization",
                namespace=NAMESPACE,
                resources=[
                    "namespace.yaml",
                    *(part.name if part.is_member else f"{part.name}.yaml" for part in parts),
                ],
                configMapGenerator=[
                    # A new name at every change, so that a changed setting rolls the pods.
                    {"name": f"{PREFIX}-settings", "envs": ["settings.env"]},
                    # The same name for ever: the gateway follows the file while it runs.
                    {
                        "name": f"{PREFIX}-roster",
                        "files": ["roster.yaml"],
                        "options": {"disableNameSuffixHash": True},
                    },
                ],
            )
        ),
    }
    for name, text in member_base(plan).items():
        files[KUBERNETES / "member" / name] = text
    for part in parts:
        if part.is_member:
            files[base / part.name / "kustomization.yaml"] = dump(member_facts(part))
        else:
            files[base / f"{part.name}.yaml"] = dump(*kubernetes.objects(plan, part))
    tls, tokens = KUBERNETES / "components/tls", KUBERNETES / "components/tokens"
    is_member = {"kind": "Deployment", "labelSelector": IS_MEMBER}
    files[tls / "member.yaml"] = dump(tls_patch(any_member()))
    files[tls / "names.yaml"] = dump(*(_tls_name(part) for part in plan.members))
    for name in FRONT:
        files[tls / f"{name}.yaml"] = dump(tls_patch(plan.part(name)))
    files[tls / "kustomization.yaml"] = dump(
        _kustomization(
            "Component",
            patches=[
                {"path": "member.yaml", "target": is_member},
                {"path": "names.yaml"},
                *({"path": f"{name}.yaml"} for name in FRONT),
            ],
        )
    )
    for name in FRONT:
        files[tokens / f"{name}.yaml"] = dump(tokens_patch(plan.part(name)))
    files[tokens / "kustomization.yaml"] = dump(
        _kustomization("Component", patches=[{"path": f"{name}.yaml"} for name in FRONT])
    )
    issued = KUBERNETES / "components/cert-manager"
    files[issued / "certificates.yaml"] = dump(*certificates(plan))
    files[issued / "kustomization.yaml"] = dump(
        _kustomization("Component", namespace=NAMESPACE, resources=["certificates.yaml"])
    )
    overlays = KUBERNETES / "overlays"
    files[overlays / "plain/kustomization.yaml"] = dump(_overlay(plan, device="cpu", secure=False))
    files[overlays / "cpu/kustomization.yaml"] = dump(_overlay(plan, device="cpu", secure=True))
    files[overlays / "gpu/gpu.yaml"] = dump(gpu_patch())
    files[overlays / "gpu/autoscaler.yaml"] = dump(gpu_autoscaler_patch())
    files[overlays / "gpu/kustomization.yaml"] = dump(
        _overlay(
            plan,
            device="cuda",
            secure=True,
            patches=[
                {"path": path, "target": {"kind": kind, "labelSelector": IS_MEMBER}}
                for path, kind in (
                    ("gpu.yaml", "Deployment"),
                    ("autoscaler.yaml", "HorizontalPodAutoscaler"),
                )
            ],
        )
    )
    return files
