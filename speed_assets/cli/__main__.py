"""`python -m speed_assets.cli`: the `speed` command of this interpreter."""

import sys

from speed_assets.cli import main

sys.exit(main())
