"""Files that people write are read as they mean them, or named with the line."""

from __future__ import annotations

from pathlib import Path

import pytest
from spinezoo_contract.errors import ConfigurationError
from spinezoo_pacs.collect.query import read_query
from spinezoo_pacs.node.settings import read_settings

NODE = "spool: /tmp/spool\npeers:\n  - {ae_title: PACS, host: 10.1.2.3, port: 104}\n"
QUERY = "pacs: {ae_title: PACS, host: 10.1.2.3, port: 104}\n"


def test_a_good_file_is_taken_with_a_byte_order_mark_too(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    for mark in (b"", b"\xef\xbb\xbf"):
        path.write_bytes(mark + NODE.encode())
        assert read_settings(path).peers[0].ae_title == "PACS"
        path.write_bytes(mark + QUERY.encode())
        query = read_query(path)
        assert query.pacs is not None
        assert query.key == tmp_path / "site.key"


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ("workers: 1\nworkers: 3\n", "line 5: workers stands twice"),
        ("limits: {film_mib: 1, film_mib: 2}\n", "line 4: film_mib stands twice"),
        ("workers: [\n", "line 5"),
        ("workers: 2019-13-45\n", "no YAML file"),
        ("workers: !!python/object:os.system x\n", "line 4"),
        ("workers: " + "[" * 3000 + "\n", "no YAML file"),
        ("workers: *none\n", "line 4"),
        ("? [a]\n: 1\n", "file.yaml"),
        ("workers: many\n", "workers"),
        ("\t\n", "file.yaml"),
        ("workers: \x07\n", "no YAML file"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, more: str, says: str) -> None:
    path = tmp_path / "file.yaml"
    path.write_text(NODE + more)
    with pytest.raises(ConfigurationError, match=says):
        read_settings(path)
    path.write_text(QUERY + "studies: {StudyDate: 2019-02-30}\n")
    with pytest.raises(ConfigurationError, match="no YAML file"):
        read_query(path)


def test_what_is_no_file_of_text_is_named(tmp_path: Path) -> None:
    path = tmp_path / "file.yaml"
    for content in (b"", b"\xff\xfe\x00", b"- 1\n", b"text"):
        path.write_bytes(content)
        with pytest.raises(ConfigurationError, match=r"file\.yaml"):
            read_settings(path)
    with pytest.raises(ConfigurationError, match="the node's user"):
        read_settings(tmp_path)
