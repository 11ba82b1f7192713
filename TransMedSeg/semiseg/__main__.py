"""``python -m semiseg``, also under ``torchrun -m``."""

import sys

from .cli import main

sys.exit(main())
