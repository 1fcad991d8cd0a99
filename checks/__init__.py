"""Commands around the pipeline. They read what the stages wrote, and no stage depends on them."""

import sys
from importlib.util import find_spec

if find_spec("dvc") is None:
    sys.exit(f"{sys.executable} is not the project's environment: `make setup`, then `source .venv/bin/activate`")
