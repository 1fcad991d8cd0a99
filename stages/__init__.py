"""download -> tokenize -> train -> predict -> calibrate -> evaluate, baselines -> report; none imports another.

Importing any stage seals the environment first, before a library can read it.
"""

import stages.shared.runtime.environment as environment

__all__ = ["environment"]
