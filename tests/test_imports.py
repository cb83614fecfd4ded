"""Every module of the package imports."""
import importlib
import pkgutil
import sys

import pytest
from absl import flags

import actionjax

MODULES = sorted(module.name for module in pkgutil.walk_packages(
    actionjax.__path__, "actionjax.", onerror=lambda name: None))


@pytest.fixture
def own_flags():
  """Lets a command define its flags beside those of another that was imported before."""
  defined = flags.FLAGS
  kept = {name: defined[name] for name in list(defined)
          if str(defined.find_module_defining_flag(name)).startswith("actionjax")}
  for name in kept:
    delattr(defined, name)
  others = set(defined)
  yield
  for name in set(defined) - others:
    delattr(defined, name)
  for name, flag in kept.items():
    defined[name] = flag


@pytest.mark.parametrize("name", MODULES)
def test_module_imports(name, own_flags):
  if name.startswith(("actionjax.benchmarks.torch_twins",
                      "actionjax.benchmarks.accelerator.torch_side")):
    pytest.importorskip("torch")
  known, before = name in sys.modules, set(flags.FLAGS)
  importlib.import_module(name)
  if set(flags.FLAGS) - before and not known:
    del sys.modules[name]  # a command: its flags are gone after this test


def test_the_list_is_not_empty():
  assert {"actionjax.recipe", "actionjax.models.vpn",
          "actionjax.data.loading.pipeline"} <= set(MODULES)
