"""Certificates for this room's tests."""

from spinezoo_testing.certificates import certificates, shared_certificates, tool

__all__ = ["certificates", "shared_certificates", "tool"]
