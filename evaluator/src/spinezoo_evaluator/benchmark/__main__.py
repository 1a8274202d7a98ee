"""``python -m spinezoo_evaluator.benchmark``: see ``command.py``."""

from __future__ import annotations

import sys

from spinezoo_contract.output import end_with_reader

from spinezoo_evaluator.benchmark.command import main

end_with_reader()
sys.exit(main())
