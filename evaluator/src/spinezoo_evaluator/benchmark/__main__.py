"""``python -m spinezoo_evaluator.benchmark``: see ``command.py``."""

from __future__ import annotations

import sys

from spinezoo_evaluator.benchmark.command import main

sys.exit(main())
