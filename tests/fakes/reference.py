"""The reference of spec/, loaded from its file: it belongs to no package."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

FILE = Path(__file__).resolve().parents[2] / "spec" / "reference.py"


def _load() -> ModuleType:
    spec = importlib.util.spec_from_file_location("spangate_reference", FILE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


reference = _load()
