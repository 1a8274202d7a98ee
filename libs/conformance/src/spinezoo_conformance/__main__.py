"""``python -m spinezoo_conformance host:port``."""

import sys

from spinezoo_conformance.suite import main

sys.exit(main())
