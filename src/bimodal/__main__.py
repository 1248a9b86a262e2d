"""`python -m bimodal`, the same as the command `bimodal`."""

import sys

from bimodal.cli import main

sys.exit(main())
