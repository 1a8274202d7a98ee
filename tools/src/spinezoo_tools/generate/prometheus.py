"""What Prometheus reads: whom to scrape, beside compose and in a cluster."""

from __future__ import annotations

from spinezoo_tools.generate.kubernetes import NAMESPACE
from spinezoo_tools.generate.plan import PREFIX, Plan
from spinezoo_tools.generate.text import Manifest


def prometheus(plan: Plan) -> Manifest:
    """Prometheus beside compose: every address behind a service's name is scraped."""
    return _prometheus(
        {
            "dns_sd_configs": [
                {
                    "names": [part.name],
                    "type": "A",
                    "port": part.http_port,
                    "refresh_interval": "15s",
                }
                for part in plan.parts
            ],
            "relabel_configs": [{"source_labels": ["__meta_dns_name"], "target_label": "part"}],
        }
    )


def prometheus_kubernetes() -> Manifest:
    """Prometheus in the cluster: every pod of the zoo; needs the right to list pods there."""
    name, part_of = "app_kubernetes_io_name", "app_kubernetes_io_part_of"
    label = "__meta_kubernetes_pod_label_"
    return _prometheus(
        {
            "kubernetes_sd_configs": [{"role": "pod", "namespaces": {"names": [NAMESPACE]}}],
            "relabel_configs": [
                {"source_labels": [f"{label}{part_of}"], "regex": PREFIX, "action": "keep"},
                {
                    "source_labels": ["__meta_kubernetes_pod_container_port_name"],
                    "regex": "http",
                    "action": "keep",
                },
                {"source_labels": [f"{label}{name}"], "target_label": "part"},
                {"source_labels": ["__meta_kubernetes_pod_name"], "target_label": "pod"},
            ],
        }
    )


def _prometheus(discovery: Manifest) -> Manifest:
    return {
        "global": {"scrape_interval": "15s", "scrape_timeout": "10s", "evaluation_interval": "15s"},
        "rule_files": ["alerts.yml"],
        "scrape_configs": [
            {
                "job_name": PREFIX,
                "metrics_path": "/metrics",
                # A process writes some hundred lines; a hundred times that is a fault.
                "sample_limit": 20_000,
                "body_size_limit": "10MB",
                **discovery,
            }
        ],
    }
