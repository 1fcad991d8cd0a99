"""download -> tokenize -> train -> predict -> evaluate -> report; they never import each other, only `stages.shared`.

Importing any stage seals the environment first, before a library can read it.
"""

import stages.shared.hermetic as hermetic
from stages.shared.imports import put_off_collections

__all__ = ["hermetic"]

put_off_collections()
