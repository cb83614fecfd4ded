"""Backbones of video or heat maps that a system's `backbone` section names."""
from collections.abc import Mapping
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from actionjax import configuration


def find(section: Mapping[str, Any]) -> type[nn.Module]:
  """The module of a section's `name`. Raises UserError where there is none."""
  return configuration.plugin("actionjax.models", section.get("name", ""), "Backbone",
                              "model.backbone.name")


def build(section: Mapping[str, Any], dtype: str) -> nn.Module:
  """The backbone of a section, as the submodule `backbone` of the module that calls this.

  Args:
    section: `name` of a module of this package with a `Backbone`, and its fields.
    dtype: type that it computes in.

  Raises:
    UserError: there is no such backbone, or an unknown field or value.
  """
  fields = {key: value for key, value in section.items() if key != "name"}
  return configuration.build(find(section), fields, "model.backbone", dtype=jnp.dtype(dtype),
                             name="backbone")
