"""download -> tokenize -> train -> predict -> evaluate -> report; they never import each other, only `stages/shared/`.

Importing any stage seals the environment first, before a library can read it.
"""

import stages.shared.runtime.environment as environment

__all__ = ["environment"]
