"""Keeps out of the daemons what libraries import for features that no daemon uses: some 3 MB in each of them.

`keep_out` comes before the libraries. Nothing can break by it: a module that is used after all is loaded then.
"""

from __future__ import annotations

import importlib
import sys
from functools import partial
from importlib.machinery import PathFinder
from types import ModuleType
from typing import Any

ABSENT = ("typing_extensions",)
"""msgspec prefers it, where it is installed, to `typing`, which has all of it since Python 3.11. It brings inspect, ast
and tokenize."""
LATER: dict[str, tuple[str, ...]] = {
    "urllib.request": (),
    "ipaddress": (),
    "locale": (),
    "importlib.metadata": ("entry_points",),
}
"""Modules with the functions that are imported by name. paho would ask the first for the address of a proxy; it brings
http.client and email. urllib.parse wants the next one for addresses in brackets, calendar the one after it for the
months of other languages. gpiozero would look for a pin factory with the last one, but gets its factory from us."""
PARTS: dict[str, tuple[str, ...]] = {
    "gpiozero": ("exc", "devices", "input_devices", "output_devices"),
}
"""Packages of which these modules are enough. gpiozero's other ones are for robots, Christmas trees and displays."""


class Later(ModuleType):
    """A module that is loaded when something of it is used, or one of its `functions` is called, for the first time."""

    def __init__(self, name: str, functions: tuple[str, ...]) -> None:
        super().__init__(name)
        for function in functions:
            setattr(self, function, partial(self._call, function))

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):  # the import system asks for `__path__` and the like, which is no use
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)

    def _call(self, function: str, *args: Any, **more: Any) -> Any:
        return self.__getattr__(function)(*args, **more)


class Parts(ModuleType):
    """A package whose own `__init__` is not run: its names are those of some of its modules."""

    def __init__(self, name: str, path: list[str], modules: tuple[str, ...]) -> None:
        super().__init__(name)
        self.__path__ = path
        self._modules = modules

    def __getattr__(self, name: str) -> Any:
        for module in () if name.startswith("__") else self._modules:
            found = vars(importlib.import_module(f"{self.__name__}.{module}"))
            if name in found:
                return found[name]
        raise AttributeError(f"{self.__name__} has no {name}: see {__name__}")


M_TRIM_THRESHOLD, M_TOP_PAD, M_ARENA_MAX = -1, -2, -8
"""mallopt(3)."""


def one_heap() -> None:
    """All threads of this process take memory from one heap of the C library, which gives back what it can: 1 MB less.

    For the agent, whose threads do little at the same time; those of voice shall not wait for one another.
    """
    import ctypes

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):
        return  # a C library with other ways
    for parameter, value in ((M_ARENA_MAX, 1), (M_TRIM_THRESHOLD, 65_536), (M_TOP_PAD, 16_384)):
        mallopt(parameter, value)


def absent() -> None:
    """Keep out what has a substitute; all that a short-lived child needs of this."""
    for name in ABSENT:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type] # how `import` is told that there is none


def keep_out() -> None:
    """From now on; modules that are loaded already stay as they are."""
    absent()
    for name, functions in LATER.items():
        if name not in sys.modules:
            package, _, leaf = name.rpartition(".")
            module = sys.modules[name] = Later(name, functions)
            if package:
                setattr(importlib.import_module(package), leaf, module)
    for name, modules in PARTS.items():
        spec = None if name in sys.modules else PathFinder.find_spec(name)
        if spec is not None and spec.submodule_search_locations:
            sys.modules[name] = Parts(name, list(spec.submodule_search_locations), modules)
