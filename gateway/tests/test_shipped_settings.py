"""What ``.env`` ships is what the gateway does without it."""

from __future__ import annotations

from pathlib import Path

from spinezoo_gateway.settings import GatewaySettings

ROOT = Path(__file__).resolve().parents[2]


def test_shipped_settings_are_the_defaults_of_the_code() -> None:
    lines = (ROOT / ".env").read_text().splitlines()
    shipped = dict(line.split("=", 1) for line in lines if "=" in line and line[0] != "#")
    settings = GatewaySettings(roster=Path("roster.yaml"))
    for name in ("quorum", "member_deadline_ms"):
        assert int(shipped[f"SPINEZOO_{name.upper()}"]) == getattr(settings, name), name
