"""``python -m spinezoo_conformance host:port``."""

import sys

from spinezoo_contract.output import end_with_reader

from spinezoo_conformance.command import main

end_with_reader()
sys.exit(main())
