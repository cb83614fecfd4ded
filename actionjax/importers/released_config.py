"""What a checkpoint's own config says of its network, where mmcv or mmengine stored one beside it.

The config is Python source of nested `dict(type=..., ...)`; it is parsed, and never run.
"""
import ast
import dataclasses
from typing import Any

_FEATURES = {"j": "joint", "b": "bone", "jm": "joint_motion", "bm": "bone_motion"}


@dataclasses.dataclass(frozen=True)
class Config:
  """What was found, each None where the config does not say.

  Attributes:
    kind: of heat maps: "joint", "limb" or "both".
    limbs: pairs of joints of limb maps; () for those of the code's own default.
    temporal_stride: of SlowOnly's last stage.
    adaptive: of graph units: "init", "offset", "importance".
    stream: what a graph network reads, names of `skeleton_streams.STREAMS`.
  """
  kind: str | None = None
  limbs: tuple[tuple[int, int], ...] | None = None
  temporal_stride: int | None = None
  adaptive: str | None = None
  stream: tuple[str, ...] | None = None


def parse(text: str | None) -> Config:
  """The statements of a config's text; all None for none, or for text that is no such config."""
  try:
    tree = ast.parse(text or "")
  except (SyntaxError, ValueError, RecursionError, MemoryError):
    return Config()
  known = {}
  for node in tree.body:
    if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
      known[node.targets[0].id] = _literal(node.value, known)
  sections = [{keyword.arg: _literal(keyword.value, known) for keyword in node.keywords}
              for node in ast.walk(tree)
              if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
              and node.func.id == "dict"]
  of = lambda kind: [section for section in sections if section.get("type") == kind]
  return Config(
      kind=_only(_kind(section) for section in of("GeneratePoseTarget")),
      limbs=_only(_pairs(section.get("skeletons", ())) for section in of("GeneratePoseTarget")
                  if section.get("with_limb")),
      temporal_stride=_only(
          section["temporal_strides"][-1] for section in of("ResNet3dSlowOnly")
          if isinstance(section.get("temporal_strides"), (tuple, list))
          and len(section["temporal_strides"]) == 3
          and isinstance(section["temporal_strides"][-1], int)),
      adaptive=_only(section["gcn_adaptive"] for section in sections
                     if section.get("gcn_adaptive") in ("init", "offset", "importance")),
      stream=_only(_stream(section) for section in of("GenSkeFeat")))


def _literal(node, known) -> Any:
  """The value of a literal or of a name of the config's; None for anything else."""
  if isinstance(node, ast.Name):
    return known.get(node.id)
  try:
    return ast.literal_eval(node)
  except (ValueError, TypeError, SyntaxError, RecursionError, MemoryError):
    return None


def _only(values):
  """What all pipelines of a config agree on; None where they do not."""
  found = set(values)
  return found.pop() if len(found) == 1 else None


def _kind(section):
  drawn = (section.get("with_kp", True), section.get("with_limb", False))
  if not all(isinstance(flag, bool) for flag in drawn):
    return None
  return {(True, False): "joint", (False, True): "limb", (True, True): "both"}.get(drawn)


def _pairs(value):
  try:
    return tuple((int(a), int(b)) for a, b in value)
  except (TypeError, ValueError):
    return None


def _stream(section):
  features = section.get("feats", ["j"])
  if not isinstance(features, (list, tuple)) or not all(
      isinstance(feature, str) and feature in _FEATURES for feature in features):
    return None
  return tuple(_FEATURES[feature] for feature in features)
