"""An environment in which an extra is not installed."""

from __future__ import annotations

import builtins
import sys
from typing import Any

import pytest


def not_installed(monkeypatch: pytest.MonkeyPatch, package: str, *users: str) -> None:
    """`package` cannot be imported, and modules of ours whose names begin with one of `users` are imported anew."""
    for name in [name for name in sys.modules if _within(name, package) or name.startswith(users)]:
        monkeypatch.delitem(sys.modules, name)
    load = builtins.__import__

    def without(name: str, *arguments: Any, **more: Any) -> Any:
        asked = [name, *(f"{name}.{part}" for part in (arguments[2] if len(arguments) > 2 else None) or ())]
        if any(_within(one, package) for one in asked):
            raise ModuleNotFoundError(f"No module named '{package}'", name=package)
        return load(name, *arguments, **more)

    monkeypatch.setattr(builtins, "__import__", without)


def _within(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")
