"""Networks: one file per system, on shared layers, backbones and heads.

A system's file exposes `Model`, a linen module called as
`model(batch, train=...) -> (logits, out)`; a backbone's exposes `Backbone`, called as
`backbone(x, train=...) -> (feature_map, endpoints)`.
"""
import dataclasses
from collections.abc import Mapping

from actionjax import configuration, skeletons


def create(config: Mapping, *, num_classes: int, layout: str, path: str = "config.model"):
  """The model of a config section.

  Args:
    config: `name` of a module of this package with a `Model` (or a dotted path), and its fields.
    num_classes: of the dataset.
    layout: the dataset's joint layout, for models that have such a field and no value for it.
    path: the section's place in the config, for messages.

  Raises:
    UserError: no such model, an unknown field, one that is missing, or another layout than the
      dataset's.
  """
  fields = dict(config)
  name = fields.pop("name", None)
  if name is None:
    raise configuration.UserError(f"{path} lacks name")
  model = configuration.plugin("actionjax.models", name, "Model", f"{path}.name")
  if "layout" in {f.name for f in dataclasses.fields(model)} and fields.get("layout") is None:
    fields["layout"] = layout
  elif layout and fields.get("layout") not in (None, layout):
    ours = skeletons.title(fields["layout"])
    raise configuration.UserError(f"{path}.layout is {ours!r}, but the dataset's skeletons are of "
                                  f"the layout {skeletons.title(layout)}")
  return configuration.build(model, fields, path, num_classes=num_classes)


def filled(config: Mapping, model) -> dict:
  """A model's section with all defaults filled in.

  Args:
    config: the section.
    model: what `create` made of it.
  """
  fields = {field.name: getattr(model, field.name) for field in dataclasses.fields(model)
            if field.init and field.name not in ("parent", "name", "num_classes")}
  for name, part in getattr(model, "parts", {}).items():
    if fields.get(name) is not None:
      defaults = {field.name: field.default for field in dataclasses.fields(part)
                  if field.init and field.default is not dataclasses.MISSING
                  and field.name not in ("parent", "name", "dtype", "layout")}
      fields[name] = defaults | dict(fields[name])
  return {"name": config["name"], **configuration.to_dict(fields)}


def from_description(description: Mapping):
  """The model that a checkpoint holds the weights of.

  Args:
    description: of the checkpoint: `model`, its section, `class_names` and `layout`.

  Raises:
    UserError: this version has no such model, or a field of it is unknown here.
  """
  return create(description["model"], num_classes=len(description["class_names"]),
                layout=description["layout"], path="the checkpoint's model")
