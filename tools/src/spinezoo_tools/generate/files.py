"""Every generated file of a checkout, writing them, and what is not as it would be written."""

from __future__ import annotations

from pathlib import Path

from spinezoo_serving.variables import RENAMED

from spinezoo_tools.checkout import ToolError
from spinezoo_tools.generate.kustomize import KUBERNETES, kubernetes_files
from spinezoo_tools.generate.pages import pages
from spinezoo_tools.generate.plan import Plan
from spinezoo_tools.generate.prometheus import prometheus, prometheus_kubernetes
from spinezoo_tools.generate.terms import page_terms
from spinezoo_tools.generate.text import dump, render
from spinezoo_tools.variables import markdown, reference, shared
from spinezoo_tools.zoo import Zoo

OBSERVE = Path("deploy/observe")

PORTS = Path("libs/contract/src/spinezoo_contract/ports.py")
"""The evaluator's settings read it, and the page of settings is made from these."""

TEMPLATES = {
    ".importlinter": "importlinter.j2",
    "compose.yaml": "compose.yaml.j2",
    "compose.gpu.yaml": "compose.gpu.yaml.j2",
    "compose.tls.yaml": "compose.tls.yaml.j2",
    "deploy/compose/roster/roster.yaml": "compose-roster.yaml.j2",
    "gateway/roster.yaml": "gateway-roster.yaml.j2",
}
"""Template of each file that is text."""


def files(root: Path) -> dict[Path, str]:
    """Every generated file, by its path in the checkout.

    Raises:
        ToolError: There is no network, or ``.env`` is wrong.
    """
    plan = Plan(root)
    values = {
        "members": plan.members,
        "gateway": plan.part("gateway"),
        "evaluator": plan.part("evaluator"),
        "reference": reference,
        "renamed": list(RENAMED),
        "settings": {
            "all": shared("Servers", "Decoding films"),
            "members": shared("Networks"),
            "gateway": shared("Gateway"),
        },
    }
    return {
        Path(".env"): with_ports(plan),
        Path("docs/settings.md"): markdown(),
        PORTS: ports_module(root),
        Path("gateway/src/spinezoo_gateway/page/terms.js"): page_terms(),
        **{Path(path): render(template, **values) for path, template in TEMPLATES.items()},
        **pages(root),
        **kubernetes_files(plan),
        OBSERVE / "prometheus.yml": dump(prometheus(plan)),
        OBSERVE / "prometheus-kubernetes.yml": dump(prometheus_kubernetes()),
    }


def ports_module(root: Path) -> str:
    """The ports that clients and the evaluator take where nothing says otherwise."""
    ports = Zoo(root, environment={}).ports()
    (gateway, _), (grpc, http) = ports["gateway"], ports["evaluator"]
    return f'''"""Ports of a zoo on one machine, by `make generate` from .env; change that."""

GATEWAY_GRPC = {gateway}
EVALUATOR_GRPC = {grpc}
EVALUATOR_HTTP = {http}
'''


def with_ports(plan: Plan) -> str:
    """``.env`` with the block of ports; all else stays.

    Raises:
        ToolError: A marker of the block is not there once.
    """
    inner = [plan.part("gateway"), *plan.members, plan.part("evaluator")]
    ports = [
        f"SPINEZOO_{part.name.upper()}_{kind}_PORT={port}"
        for part in inner
        for kind, port in (("GRPC", part.grpc_port), ("HTTP", part.http_port))
    ]
    begin, end = "# begin: ports (make generate)\n", "# end: ports\n"
    if plan.env.count(begin) != 1 or plan.env.count(end) != 1:
        raise ToolError(f".env must hold {begin.strip()!r} and {end.strip()!r} once each")
    before, _, rest = plan.env.partition(begin)
    return before + begin + "".join(f"{line}\n" for line in ports) + end + rest.partition(end)[2]


def write(root: Path) -> None:
    """Writes every file, and deletes those of networks that are gone."""
    if (root / PORTS).is_file():
        (root / PORTS).write_text(ports_module(root), encoding="utf-8")
    wanted = files(root)
    for path, text in wanted.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text, encoding="utf-8")
    for path in _superfluous(root, wanted):
        (root / path).unlink()
        if not any((root / path).parent.iterdir()):
            (root / path).parent.rmdir()


def differences(root: Path) -> list[str]:
    """What on disk is not as it would be written, a line each; empty where all is well."""
    wanted = files(root)
    found = []
    for path, text in wanted.items():
        if not (root / path).is_file():
            found.append(f"{path}: absent")
        elif (root / path).read_text(encoding="utf-8") != text:
            found.append(f"{path}: differs")
    return found + [f"{path}: nothing makes it; delete it" for path in _superfluous(root, wanted)]


def _superfluous(root: Path, wanted: dict[Path, str]) -> list[Path]:
    """Files below the folders that only this command writes, which it would not write.

    Overlays are left alone: a site may have its own beside ours.
    """
    found = []
    for folder in ("base", "member", "components"):
        for path in sorted((root / KUBERNETES / folder).rglob("*")):
            inside = path.relative_to(root)
            if path.is_file() and inside not in wanted and path.suffix != ".md":
                found.append(inside)
    return found
