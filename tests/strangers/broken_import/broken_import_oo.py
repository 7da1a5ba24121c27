"""A plugin whose dependency is missing."""

import no_such_module_anywhere  # type: ignore[import-not-found]  # the point of it

__all__ = ["no_such_module_anywhere"]
