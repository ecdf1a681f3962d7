"""`python -m allos` is the `allos` command."""

import sys

from allos.cli import main

sys.exit(main())
