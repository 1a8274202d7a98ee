"""Workers that hang share the time that the node has to end."""

from __future__ import annotations

import threading
import time
from pathlib import Path

from spinezoo_pacs.node.settings import NodeSettings
from spinezoo_pacs.node.spool import Spool
from spinezoo_pacs.node.worker import Workers


class Hanging(threading.Thread):
    """A worker whose gateway never answers; keeps how long it was waited for."""

    waited_s = 0.0

    def join(self, timeout: float | None = None) -> None:
        assert timeout is not None
        self.waited_s = timeout
        time.sleep(timeout)


def test_all_workers_together_have_the_time_to_end(tmp_path: Path) -> None:
    settings = NodeSettings.model_validate(
        {
            "spool": tmp_path / "spool",
            "peers": [{"ae_title": "A", "host": "127.0.0.1", "port": 1}],
        }
    )
    spool = Spool(settings.spool, settings.limits)
    workers = Workers(settings, spool, lambda what: None)
    hanging = [Hanging() for _ in range(4)]
    workers._threads = list(hanging)
    workers.stop(0.2)
    assert 0.0 < sum(each.waited_s for each in hanging) <= 0.2
    spool.close()
