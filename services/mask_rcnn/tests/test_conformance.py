"""The Mask R-CNN process keeps the contract."""

from pathlib import Path

from spinezoo_conformance.testing import ConformanceTests


class TestConformance(ConformanceTests):
    """Every rule, against the real process with the shipped weights."""

    service_folder = Path(__file__).parents[1]
