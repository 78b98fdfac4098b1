"""The ground floor stays light: every module of it imports without a model library or pandas."""

import importlib.util
import pkgutil
import subprocess
import sys

import shards

HEAVY = {"torch", "pandas", "ray", "diffusers", "transformers", "matplotlib", "sklearn", "PIL"}


def test_no_module_loads_anything_heavy() -> None:
    modules = [module.name for module in pkgutil.walk_packages(shards.__path__, "shards.")]
    assert {"shards.writer", "shards.audit.counts"} <= set(modules)
    assert all(importlib.util.find_spec(name) for name in HEAVY)
    code = f"""
import importlib, sys
for name in {modules}:
    importlib.import_module(name)
    print(name, *({HEAVY} & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:-1] == modules
