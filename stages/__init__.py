"""download -> tokenize -> train -> predict -> calibrate -> evaluate -> report; none imports another, only `shared/`.

Importing any stage seals the environment first, before a library can read it.
"""

import stages.shared.runtime.environment as environment

__all__ = ["environment"]
