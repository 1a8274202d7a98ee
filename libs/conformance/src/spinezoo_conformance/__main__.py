"""``python -m spinezoo_conformance host:port``."""

import sys

from spinezoo_conformance.command import main

sys.exit(main())
