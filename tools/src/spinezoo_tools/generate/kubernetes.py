"""The objects that Kubernetes runs: five for each network, the gateway and the evaluator."""

from __future__ import annotations

import math

from spinezoo_tools.generate.plan import PREFIX, Part, Plan
from spinezoo_tools.generate.text import Manifest
from spinezoo_tools.zoo import START_TIMEOUT_S

NAMESPACE = "spinezoo"

USER_ID = 10001
"""User and group of every container; the images make the same user."""

CONTAINER = "server"
"""Name of the container in every pod: the same everywhere, so that one patch fits all pods."""

CONFIG_FOLDER = "/etc/spinezoo"

PRESTOP_SECONDS = {"gateway": 5, "evaluator": 5, "member": 35}
"""An ending pod goes on serving for so long before it is told to stop.

Gateway and evaluator are reached through kube-proxy, which learns of the end after a moment. A
member's gateway asks DNS again when a connection to it ends, and a cluster's DNS keeps an answer
for 30 s: by then it must no longer name this pod, and must name the one that takes its place."""

MIN_READY_SECONDS = 40
"""Pause between two pods of an update: gRPC asks DNS at most every 30 s, so that two pods which end
within that time could leave a gateway without an address."""

STARTUP_PERIOD_SECONDS = 5

MEMBER_SERVICE = "spinezoo.v1.SegmenterService"
SERVICES = {
    "gateway": "spinezoo.v1.EnsembleService",
    "evaluator": "spinezoo.v1.EvaluationService",
}
"""Full names of the gRPC services whose health the probes ask for."""

PROMETHEUS = {"namespace": "monitoring", "app.kubernetes.io/name": "prometheus"}
"""Namespace and label of the pods that may read ``/metrics``."""

CLIENT_LABEL = "spinezoo-client"
"""Label, with the value ``"true"``, of pods in the zoo's namespace, and of other namespaces, that
may call the gateway and the evaluator."""


def memory_limit_gib(plan: Plan, part: Part) -> int:
    """What a pod may need when every place in its queue holds the largest film, in GiB.

    A member: each waiting request and the one at work, and 2 GiB for framework, network and
    reading. The gateway: each film under way as request, as decoded film and once a member, which
    gRPC keeps for another try. The evaluator: 2 GiB.
    """
    message = plan.number("SPINEZOO_MAX_MESSAGE_BYTES")
    if part.is_member:
        needed = (plan.number("SPINEZOO_QUEUE_LIMIT") + 1) * message + 2 * 2**30
    elif part.name == "gateway":
        films = plan.number("SPINEZOO_GATEWAY_CONCURRENCY")
        needed = films * (2 + len(plan.members)) * message + 2**29
    else:
        needed = 2 * 2**30
    return math.ceil(needed / 2**30)


def grace_seconds(plan: Plan, part: Part) -> int:
    """Time a pod has to end: a member may drain gRPC and then HTTP, each as long."""
    drain = math.ceil(plan.number("SPINEZOO_DRAIN_S"))
    return 2 * drain + 15 + PRESTOP_SECONDS[part.component]


def probes(part: Part, *, tls: bool) -> Manifest:
    """The three probes.

    Kubernetes' own gRPC probe speaks no TLS. With TLS the probes ask the HTTP endpoint, which
    answers from the same state; an exec probe would start a Python interpreter every few seconds
    and, with mutual TLS, need a certificate of its own.
    """
    every: dict[str, Manifest] = {
        "startupProbe": {
            "periodSeconds": STARTUP_PERIOD_SECONDS,
            "timeoutSeconds": 5,
            "failureThreshold": math.ceil(START_TIMEOUT_S / STARTUP_PERIOD_SECONDS),
        },
        "readinessProbe": {"periodSeconds": 5, "timeoutSeconds": 5, "failureThreshold": 3},
        "livenessProbe": {"periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6},
    }
    service = SERVICES.get(part.name, MEMBER_SERVICE)
    for name, probe in every.items():
        if tls:
            path = "/livez" if name == "livenessProbe" else "/readyz"
            probe["grpc"] = None  # takes the base's away
            probe["httpGet"] = {"path": path, "port": "http"}
        else:
            asked = "" if name == "livenessProbe" else service
            probe["grpc"] = {"port": part.grpc_port, "service": asked}
    return every


def _container(plan: Plan, part: Part) -> Manifest:
    """The container of a pod: what it runs, may use, and is asked."""
    environment: list[Manifest] = [
        {"name": "SPINEZOO_HOST", "value": "0.0.0.0"},
        {"name": "SPINEZOO_GRPC_PORT", "value": str(part.grpc_port)},
        {"name": "SPINEZOO_HTTP_PORT", "value": str(part.http_port)},
        # The root is read-only; frameworks keep caches below the home.
        {"name": "HOME", "value": "/tmp"},
    ]
    mounts: list[Manifest] = [{"name": "tmp", "mountPath": "/tmp"}]
    if part.is_member:
        # A framework counts the node's processors, not the pod's share of them.
        limit = {"containerName": CONTAINER, "resource": "limits.cpu"}
        environment.append({"name": "SPINEZOO_THREADS", "valueFrom": {"resourceFieldRef": limit}})
    if part.name == "gateway":
        folder = f"{CONFIG_FOLDER}/roster"
        environment.append({"name": "SPINEZOO_ROSTER", "value": f"{folder}/roster.yaml"})
        mounts.append({"name": "roster", "mountPath": folder, "readOnly": True})
    return {
        "name": CONTAINER,
        "image": part.image,
        "imagePullPolicy": "IfNotPresent",
        "ports": [
            {"name": "grpc", "containerPort": part.grpc_port},
            {"name": "http", "containerPort": part.http_port},
        ],
        "envFrom": [{"configMapRef": {"name": f"{PREFIX}-settings"}}],
        "env": environment,
        "resources": {
            "requests": {
                "cpu": "1" if part.is_member else "500m",
                "memory": "1Gi" if part.is_member else "512Mi",
                "ephemeral-storage": "64Mi",
            },
            "limits": {
                "cpu": "2",
                "memory": f"{memory_limit_gib(plan, part)}Gi",
                "ephemeral-storage": "1Gi",
            },
        },
        **probes(part, tls=False),
        "lifecycle": {"preStop": {"sleep": {"seconds": PRESTOP_SECONDS[part.component]}}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": mounts,
    }


def _pod(plan: Plan, part: Part) -> Manifest:
    """What a pod is besides its container: its rights, where it runs, how long it may end."""
    volumes: list[Manifest] = [{"name": "tmp", "emptyDir": {"sizeLimit": "512Mi"}}]
    if part.name == "gateway":
        volumes.append({"name": "roster", "configMap": {"name": f"{PREFIX}-roster"}})
    return {
        "automountServiceAccountToken": False,
        # Otherwise the variables of a Service called spinezoo-member-... would look like addresses
        # for the gateway's roster.
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": grace_seconds(plan, part),
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "runAsGroup": USER_ID,
            # Makes the Secrets readable for the user.
            "fsGroup": USER_ID,
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "topologySpreadConstraints": [
            {
                "maxSkew": 1,
                "topologyKey": key,
                # A hint, not a condition: the zoo also runs on one node.
                "whenUnsatisfiable": "ScheduleAnyway",
                "labelSelector": {"matchLabels": part.selector},
            }
            for key in ("kubernetes.io/hostname", "topology.kubernetes.io/zone")
        ],
        "containers": [_container(plan, part)],
        "volumes": volumes,
    }


def deployment(plan: Plan, part: Part) -> Manifest:
    """The Deployment. How many replicas is the HorizontalPodAutoscaler's business."""
    return {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": part.host, "labels": part.labels},
        "spec": {
            "revisionHistoryLimit": 5,
            "minReadySeconds": MIN_READY_SECONDS,
            # Longer than the startup probe waits, so that the pod's own end is what is reported.
            "progressDeadlineSeconds": int(START_TIMEOUT_S) * 2,
            "strategy": {
                "type": "RollingUpdate",
                "rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1},
            },
            "selector": {"matchLabels": part.selector},
            "template": {
                "metadata": {
                    "labels": part.labels,
                    "annotations": {
                        "prometheus.io/scrape": "true",
                        "prometheus.io/port": str(part.http_port),
                        "prometheus.io/path": "/metrics",
                    },
                },
                "spec": _pod(plan, part),
            },
        },
    }


def service(part: Part) -> Manifest:
    """The Service: headless for members, whose pods the gateway balances over itself."""
    spec: Manifest = {
        "type": "ClusterIP",
        "selector": part.selector,
        "ports": [{"name": "grpc", "port": part.grpc_port, "targetPort": "grpc"}],
    }
    if part.is_member:
        spec = {"clusterIP": "None", "publishNotReadyAddresses": False} | spec
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": part.host, "labels": part.labels},
        "spec": spec,
    }


def autoscaler(part: Part) -> Manifest:
    """The HorizontalPodAutoscaler.

    At least two of each: draining one node takes one pod of every member, and would otherwise
    take the quorum with it.
    """
    return {
        "apiVersion": "autoscaling/v2",
        "kind": "HorizontalPodAutoscaler",
        "metadata": {"name": part.host, "labels": part.labels},
        "spec": {
            "scaleTargetRef": {"apiVersion": "apps/v1", "kind": "Deployment", "name": part.host},
            "minReplicas": 1 if part.name == "evaluator" else 2,
            "maxReplicas": 3 if part.name == "evaluator" else 6,
            "metrics": [
                {
                    "type": "Resource",
                    "resource": {
                        "name": "cpu",
                        "target": {"type": "Utilization", "averageUtilization": 70},
                    },
                }
            ],
            "behavior": {
                "scaleUp": {
                    # A new pod loads its network before it helps: no second one before that.
                    "stabilizationWindowSeconds": 30,
                    "policies": [{"type": "Pods", "value": 1, "periodSeconds": 60}],
                },
                "scaleDown": {
                    "stabilizationWindowSeconds": 300,
                    "policies": [{"type": "Pods", "value": 1, "periodSeconds": 120}],
                },
            },
        },
    }


def disruption_budget(part: Part) -> Manifest:
    """The PodDisruptionBudget: one pod at a time, and a broken pod never blocks a drain."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": {"name": part.host, "labels": part.labels},
        "spec": {
            "maxUnavailable": 1,
            "unhealthyPodEvictionPolicy": "AlwaysAllow",
            "selector": {"matchLabels": part.selector},
        },
    }


def _tcp(port: int) -> Manifest:
    return {"protocol": "TCP", "port": port}


def network_policy(plan: Plan, part: Part) -> Manifest:
    """Who may call whom; everything else is refused by the namespace's default."""
    if part.is_member:
        gateway = {"app.kubernetes.io/name": "gateway", "app.kubernetes.io/part-of": PREFIX}
        callers: list[Manifest] = [{"podSelector": {"matchLabels": gateway}}]
    else:
        label = {"matchLabels": {CLIENT_LABEL: "true"}}
        callers = [{"podSelector": label}, {"namespaceSelector": label}]
    prometheus = {
        "namespaceSelector": {
            "matchLabels": {"kubernetes.io/metadata.name": PROMETHEUS["namespace"]}
        },
        "podSelector": {
            "matchLabels": {"app.kubernetes.io/name": PROMETHEUS["app.kubernetes.io/name"]}
        },
    }
    egress: list[Manifest] = []
    if part.name == "gateway":
        dns = {
            "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": "kube-system"}},
            "podSelector": {"matchLabels": {"k8s-app": "kube-dns"}},
        }
        egress = [
            {"to": [{"podSelector": {"matchLabels": member.selector}}],
             "ports": [_tcp(member.grpc_port)]}
            for member in plan.members
        ]  # fmt: skip
        egress.append({"to": [dns], "ports": [{"protocol": "UDP", "port": 53}, _tcp(53)]})
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": part.host, "labels": part.labels},
        "spec": {
            "podSelector": {"matchLabels": part.selector},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [
                {"from": callers, "ports": [_tcp(part.grpc_port)]},
                {"from": [prometheus], "ports": [_tcp(part.http_port)]},
            ],
            "egress": egress,
        },
    }


def namespace() -> list[Manifest]:
    """The namespace, which refuses pods that break the restricted profile, and its default."""
    levels = {
        f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "audit", "warn")
    }
    return [
        {
            "apiVersion": "v1",
            "kind": "Namespace",
            "metadata": {
                "name": NAMESPACE,
                "labels": {"app.kubernetes.io/part-of": PREFIX, **levels},
            },
        },
        {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {
                "name": "default-deny",
                "labels": {"app.kubernetes.io/part-of": PREFIX},
            },
            "spec": {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]},
        },
    ]


def roster(plan: Plan) -> Manifest:
    """The gateway's roster: the headless Services, all of whose addresses are used."""
    return {
        "members": [
            {"name": member.name, "target": f"dns:///{member.host}:{member.grpc_port}"}
            for member in plan.members
        ]
    }


def objects(plan: Plan, part: Part) -> list[Manifest]:
    """The five objects of one part."""
    return [
        deployment(plan, part),
        service(part),
        autoscaler(part),
        disruption_budget(part),
        network_policy(plan, part),
    ]
