"""Joint layouts of a user's own, from a small JSON file.

  {"name": "hand_21", "dimensions": 2, "joints": ["wrist", "thumb_1", ...],
   "bones": [["wrist", "thumb_1"], ["thumb_1", "thumb_2"], ...]}

`bones` are pairs (parent, child) of names, or of places in `joints`, that make a tree. Optional:
`root` (the joint that is no bone's child, and no other), `dimensions` (3, or 2 for skeletons in
images, the default), and as in `skeletons.Layout` `centre_joint`, `spine_joints`, `heatmap_limbs`,
`graph_centre`. Names that begin with left_ and right_ are each other's mirror image.
"""
import json
import pathlib

from actionjax.errors import UserError

_NEEDED = ("name", "joints", "bones")
_OPTIONAL = ("root", "dimensions", "centre_joint", "spine_joints", "heatmap_limbs", "graph_centre")


def read(path: str) -> str:
  """A file's content. Raises UserError where there is none."""
  try:
    return pathlib.Path(path).read_text()
  except (OSError, UnicodeDecodeError) as error:
    raise UserError(f"layout file {path} cannot be read: {type(error).__name__}") from error


def canonical(text: str, source: str) -> str:
  """A description as one line with sorted keys, in which equal layouts are equal."""
  return json.dumps(fields(text, source), sort_keys=True, separators=(",", ":"))


def fields(text: str, source: str) -> dict:
  """The fields of a description, all of them and with names for joints.

  Args:
    source: names the file in messages.

  Raises:
    UserError: what is missing, unknown or no tree.
  """
  try:
    content = json.loads(text)
  except (ValueError, RecursionError) as error:
    raise UserError(f"{source}: is not JSON ({str(error).splitlines()[0][:80]})") from error
  if not isinstance(content, dict):
    raise UserError(f"{source}: a layout is an object with {', '.join(_NEEDED)}")
  for field in content:
    if field not in (*_NEEDED, *_OPTIONAL):
      raise UserError(f"{source}: unknown field {field!r}; known: "
                      f"{', '.join((*_NEEDED, *_OPTIONAL))}")
  missing = [field for field in _NEEDED if not content.get(field)]
  if missing:
    raise UserError(f"{source}: lacks {', '.join(missing)}")
  name, joints = content["name"], content["joints"]
  if not isinstance(name, str) or not name.isprintable():
    raise UserError(f"{source}: name must be text, got {name!r}")
  if not isinstance(joints, list) or not all(isinstance(j, str) and j for j in joints) or (
      len(set(joints)) < len(joints)):
    raise UserError(f"{source}: joints must be different names")
  bones = _pairs(content["bones"], joints, "bones", source)
  children = [child for _, child in bones]
  roots = [joint for joint in joints if joint not in children]
  root = _joint(content.get("root", roots[0] if roots else None), joints, "root", source)
  if len(bones) != len(joints) - 1 or len(set(children)) != len(children) or roots != [root] or (
      not _reaches_all(root, bones, len(joints))):
    raise UserError(f"{source}: bones must be a tree that grows from {root}: each other joint the "
                    f"second of one pair; {len(joints)} joints have {len(joints) - 1} bones, got "
                    f"{len(bones)}")
  dimensions = content.get("dimensions", 2)
  if dimensions not in (2, 3) or isinstance(dimensions, bool):
    raise UserError(f"{source}: dimensions must be 2 or 3, got {dimensions!r}")
  for joint in joints:
    side, _, rest = joint.partition("_")
    other = {"left": "right", "right": "left"}.get(side)
    if other and f"{other}_{rest}" not in joints:
      raise UserError(f"{source}: joint {joint} has no counterpart {other}_{rest}")
  optional = lambda field: (None if content.get(field) is None else
                            _joint(content[field], joints, field, source))
  spine = content.get("spine_joints")
  if spine is not None:
    [spine] = _pairs([spine], joints, "spine_joints", source)
  return dict(name=name, joints=joints, bones=bones, root=root, dimensions=dimensions,
              centre_joint=optional("centre_joint"), spine_joints=spine,
              heatmap_limbs=_pairs(content.get("heatmap_limbs", []), joints, "heatmap_limbs",
                                   source),
              graph_centre=optional("graph_centre"))


def _joint(value, joints, field, source):
  """A joint's name, from that or from its place."""
  if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < len(joints):
    return joints[value]
  if value not in joints:
    raise UserError(f"{source}: {field} has {value!r}, which is none of its {len(joints)} joints")
  return value


def _pairs(value, joints, field, source):
  if not isinstance(value, list) or not all(isinstance(pair, list) and len(pair) == 2
                                            for pair in value):
    raise UserError(f"{source}: {field} must be pairs of joints")
  return [[_joint(end, joints, field, source) for end in pair] for pair in value]


def _reaches_all(root, bones, count):
  reached, before = {root}, 0
  while len(reached) > before:
    before = len(reached)
    reached |= {child for parent, child in bones if parent in reached}
  return len(reached) == count
