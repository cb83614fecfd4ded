"""Drawing the generated people: capsule limbs, sorted by depth, before a room.

Everything is drawn straight into the stored frame's region at twice its size and
averaged down, so that no pixel outside the stored box costs time.
"""
import dataclasses

import cv2
import numpy as np

from actionjax.data.synthetic import motion, scene

_SUPERSAMPLE = 2
_SHIFT = 4  # fractional bits of OpenCV's drawing coordinates

_JOINT = {name: i for i, name in enumerate(motion.LAYOUT.joints)}
# (from joint, to joint, radius at each end in metres, material), one per side.
_LIMBS = (("shoulder", "elbow", 0.062, 0.048, "sleeve"), ("elbow", "wrist", 0.046, 0.036, "arm"),
          ("wrist", "hand", 0.040, 0.044, "skin"), ("hip", "knee", 0.090, 0.064, "trousers"),
          ("knee", "ankle", 0.062, 0.044, "leg"), ("ankle", "foot", 0.050, 0.040, "shoes"))
_CAPSULES = (*((_JOINT[f"{side}_{a}"], _JOINT[f"{side}_{b}"], ra, rb, material)
               for side, _ in motion.SIDES for a, b, ra, rb, material in _LIMBS),
             (_JOINT["left_hip"], _JOINT["right_hip"], 0.095, 0.095, "trousers"),
             (_JOINT["shoulder_centre"], _JOINT["head"], 0.055, 0.055, "skin"))
_TORSO = (("left_shoulder", 0.070), ("right_shoulder", 0.070), ("shoulder_centre", 0.085),
          ("spine", 0.120), ("left_hip", 0.075), ("right_hip", 0.075))
_HEAD_RADIUS = 0.115


@dataclasses.dataclass(frozen=True)
class Clothes:
  """Colours of one subject by material, float[3] each, RGB 0-255."""
  colours: dict[str, np.ndarray]


def make_clothes(rng: np.random.Generator) -> Clothes:
  """Draws clothes, skin and hair. Left and right always match."""
  skin = np.array([235.0, 195.0, 165.0]) * rng.uniform(0.45, 1.05)
  shirt, trousers = scene.make_colour(rng, 20, 245), scene.make_colour(rng, 15, 170)
  long_sleeves, shorts = rng.random() < 0.5, rng.random() < 0.25
  colours = {"skin": skin, "hair": rng.uniform(0.2, 1.2) * np.array([110.0, 80.0, 50.0]),
             "shirt": shirt, "sleeve": shirt * 0.9, "arm": shirt * 0.9 if long_sleeves else skin,
             "trousers": trousers, "leg": skin if shorts else trousers,
             "shoes": scene.make_colour(rng, 10, 240)}
  return Clothes({name: np.clip(colour, 0, 250) for name, colour in colours.items()})


def person_boxes(joints: np.ndarray, girth: float) -> np.ndarray:
  """Boxes around a drawn person.

  Args:
    joints: float[T,J,3], camera frame, metres.
    girth: the body's thickness.

  Returns:
    float[T,4], x0, y0, x1, y1 in original pixels; may reach beyond the image.
  """
  margin = np.full(joints.shape[1], 0.06)
  margin[_JOINT["head"]] = 0.13
  margin = scene.FOCAL * girth * margin / np.maximum(joints[..., 2], 0.1)
  pixels = scene.project(joints)
  return np.concatenate([(pixels - margin[..., None]).min(axis=1),
                         (pixels + margin[..., None]).max(axis=1)], axis=-1)


def stored_region(boxes: np.ndarray, size: int, grow: float = 1.3):
  """The stored frame: one box for the whole clip, grown, inside the original image.

  Args:
    boxes: float[T,4], see `person_boxes`.
    size: longest side of a stored frame in pixels; never enlarges.
    grow: factor on the box's sides.

  Returns:
    (width, height) in stored pixels and frame_to_original float32[2,3]; both map integer
    pixel centres.
  """
  low, high = boxes[:, :2].min(axis=0), boxes[:, 2:].max(axis=0)
  middle, half = (low + high) / 2, (high - low) / 2 * grow
  low = np.maximum(middle - half, 0)
  high = np.minimum(middle + half, np.array(scene.IMAGE_SIZE) - 1)
  extent = high - low
  scale = max(extent.max() / size, 1.0)
  width, height = (max(8, int(side)) for side in np.round(extent / scale))
  return (width, height), np.array([[scale, 0, low[0]], [0, scale, low[1]]], np.float32)


class _Canvas:
  """Maps original pixels to the enlarged drawing surface of the stored region."""

  def __init__(self, size, frame_to_original):
    self.width, self.height = (_SUPERSAMPLE * side for side in size)
    self.scale = _SUPERSAMPLE / float(frame_to_original[0, 0])
    self.origin = frame_to_original[:, 2].astype(float)

  def fixed(self, pixels):
    """Original pixels float[...,2] as OpenCV's fixed-point canvas coordinates, int32."""
    # The averaging of 2x2 canvas pixels puts a stored pixel's centre half a pixel on.
    canvas = (pixels - self.origin) * self.scale + (_SUPERSAMPLE - 1) / 2
    return np.round(np.clip(canvas, -2000, 2000) * (1 << _SHIFT)).astype(np.int32)

  def polygon(self, image, points, colour):
    cv2.fillConvexPoly(image, points, colour.tolist(), cv2.LINE_AA, _SHIFT)

  def outlined(self, image, points, colour):
    cv2.fillConvexPoly(image, points, colour.tolist(), cv2.LINE_AA, _SHIFT)
    cv2.polylines(image, [points], True, (0.55 * colour).tolist(), 1, cv2.LINE_AA, _SHIFT)

  def disc(self, image, centre, radius, colour):
    cv2.circle(image, centre.tolist(), int(radius * self.scale * (1 << _SHIFT)),
               colour.tolist(), -1, cv2.LINE_AA, _SHIFT)


def _capsules(a, b, ra, rb, points=7):
  """Outlines float[...,2*points,2] of capsules between a and b [...,2] of radii ra, rb."""
  angle = np.arctan2(b[..., 1] - a[..., 1], b[..., 0] - a[..., 0])[..., None]
  arc = np.linspace(-np.pi / 2, np.pi / 2, points)

  def half(centre, radius, turn):
    at = angle + arc + turn
    return centre[..., None, :] + radius[..., None, None] * np.stack([np.cos(at), np.sin(at)], -1)

  return np.concatenate([half(b, rb, 0.0), half(a, ra, np.pi)], axis=-2)


def _background(canvas, camera, room):
  """The room without anything that moves, uint8[H,W,3] at canvas size."""
  image = np.empty((canvas.height, canvas.width, 3), np.uint8)
  image[:] = np.clip(room.wall, 0, 255).astype(np.uint8)
  forward = camera.rotation[2] * np.array([1.0, 0.0, 1.0])
  forward /= np.linalg.norm(forward)
  right, up = camera.rotation[0], np.array([0.0, 1.0, 0.0])

  def wall(x, y):
    return scene.project(camera.view(room.wall_depth * forward + x * right + y * up))

  floor = np.array([wall(-9, 0), wall(9, 0), [9e3, 9e3], [-9e3, 9e3]])
  canvas.polygon(image, canvas.fixed(floor), room.floor)
  for (x, y, width, height), colour in zip(room.pictures, room.picture_colours):
    corners = np.array([wall(x, y), wall(x + width, y), wall(x + width, y + height),
                        wall(x, y + height)])
    canvas.outlined(image, canvas.fixed(corners), colour)
  pattern = cv2.resize(room.texture, (canvas.width, canvas.height),
                       interpolation=cv2.INTER_LINEAR)
  image = np.clip(image + pattern[..., None], 0, 255).astype(np.uint8)
  for solid in room.still:
    _draw_cuboid(canvas, image, solid.faces(camera)[0], solid.colour)
  return image


def _draw_cuboid(canvas, image, faces, colour):
  for corners, shade in faces:
    canvas.outlined(image, canvas.fixed(corners), np.clip(shade * colour, 0, 255))


class _Person:
  """Outlines, colours and drawing order of a person in every frame."""

  def __init__(self, canvas, camera, joints, face, girth, clothes):
    self.canvas, self.clothes = canvas, clothes
    pixels, depth = scene.project(joints), np.maximum(joints[..., 2], 0.1)
    focal = scene.FOCAL * girth
    a = np.array([c[0] for c in _CAPSULES])
    b = np.array([c[1] for c in _CAPSULES])
    ra, rb = (focal * np.array([c[i] for c in _CAPSULES]) / depth[:, end]
              for i, end in ((2, a), (3, b)))
    self.capsules = canvas.fixed(_capsules(pixels[:, a], pixels[:, b], ra, rb))
    bones = joints[:, b] - joints[:, a]
    bones /= np.linalg.norm(bones, axis=-1, keepdims=True)
    light = camera.rotation @ np.array([0.36, 0.8, -0.48])
    shade = 0.72 + 0.28 * np.linalg.norm(np.cross(bones, light), axis=-1)
    base = np.stack([clothes.colours[c[4]] for c in _CAPSULES])
    self.colours = shade[..., None] * base
    at = np.array([_JOINT[name] for name, _ in _TORSO])
    radii = focal * np.array([radius for _, radius in _TORSO]) / depth[:, at]
    circle = np.linspace(0, 2 * np.pi, 12, endpoint=False)
    rim = np.stack([np.cos(circle), np.sin(circle)], -1)
    torso = pixels[:, at][:, :, None] + radii[..., None, None] * rim
    self.torso = canvas.fixed(torso.reshape(len(joints), -1, 2))
    head = joints[:, _JOINT["head"]]
    self.head = canvas.fixed(pixels[:, _JOINT["head"]])
    self.head_radius = focal * _HEAD_RADIUS / depth[:, _JOINT["head"]]
    front = head + (0.055 * girth) * face - np.array([0, 0.02 * girth, 0])
    self.face = canvas.fixed(scene.project(front))
    # The face shows as long as it looks towards the camera rather than away.
    self.face_seen = np.einsum("tc,tc->t", face, head) < 0.2 * np.linalg.norm(head, axis=-1)
    order = (depth[:, a] + depth[:, b]) / 2
    torso_depth = depth[:, at].mean(axis=1, keepdims=True)
    order[:, -2:-1] = torso_depth + 0.02  # the pelvis and the neck lie under the shirt
    order[:, -1:] = np.maximum(order[:, -1:], torso_depth) + 0.03
    self.depths = np.concatenate(
        [order, torso_depth, depth[:, _JOINT["head"], None] - 0.02], axis=1)

  def draw(self, image, t, part):
    """Draws part number `part` (a capsule, then the torso, then the head) of frame t."""
    if part < len(_CAPSULES):
      self.canvas.outlined(image, self.capsules[t, part], self.colours[t, part])
    elif part == len(_CAPSULES):
      self.canvas.outlined(image, cv2.convexHull(self.torso[t])[:, 0],
                           self.clothes.colours["shirt"])
    else:
      radius = self.head_radius[t]
      self.canvas.disc(image, self.head[t], radius, self.clothes.colours["hair"])
      if self.face_seen[t]:
        self.canvas.disc(image, self.face[t], 0.76 * radius, self.clothes.colours["skin"])


def render(rng: np.random.Generator, camera: scene.Camera, room: scene.Room, joints, face,
           girth: float, clothes: Clothes, stool: scene.Solid, item: scene.Solid, size,
           frame_to_original) -> np.ndarray:
  """Films a clip.

  Args:
    rng: the clip's generator, for lighting and sensor noise.
    camera: the camera.
    room: the surroundings.
    joints: float[T,J,3], camera frame, metres.
    face: float[T,3], camera frame, unit vectors.
    girth: thickness of the body.
    clothes: the subject's colours.
    stool: cuboid behind the person, T = 1.
    item: the small box before or in the hands of the person, T frames.
    size: (width, height) of the stored frames.
    frame_to_original: float32[2,3], see `stored_region`.

  Returns:
    uint8[T,height,width,3], RGB.
  """
  canvas = _Canvas(size, frame_to_original)
  still = _background(canvas, camera, room)
  person = _Person(canvas, camera, joints, face, girth, clothes)
  feet = joints[:, [_JOINT["left_ankle"], _JOINT["right_ankle"]]].mean(axis=(0, 1))
  shadow = feet @ camera.rotation + camera.position  # back to the world
  rim = np.linspace(0, 2 * np.pi, 16, endpoint=False)
  shadow = np.stack([shadow[0] + 0.34 * np.cos(rim), 0 * rim, shadow[2] + 0.22 * np.sin(rim)], -1)
  canvas.polygon(still, canvas.fixed(scene.project(camera.view(shadow))), 0.7 * room.floor)
  _draw_cuboid(canvas, still, stool.faces(camera)[0], stool.colour)

  item_faces = item.faces(camera)
  item_depth = camera.view(item.centre)[:, 2]
  movers = [(solid, camera.view(solid.centre), solid.faces(camera)) for solid in room.moving]
  body_depth = joints[..., 2].mean()
  movers.sort(key=lambda mover: -mover[1][0, 2])

  def draw_mover(image, mover, t):
    solid, centre, faces = mover
    if solid.kind == "ball":
      radius = scene.FOCAL * solid.size[0] / 2 / max(centre[t, 2], 0.1)
      canvas.disc(image, canvas.fixed(scene.project(centre[t])), radius, solid.colour)
    else:
      _draw_cuboid(canvas, image, faces[t], solid.colour)

  frames = np.empty((len(joints), size[1], size[0], 3), np.float32)
  for t in range(len(joints)):
    image = still.copy()
    for mover in movers:
      if mover[1][t, 2] >= body_depth:
        draw_mover(image, mover, t)
    depths = np.append(person.depths[t], item_depth[t])
    for part in np.argsort(-depths, kind="stable"):
      if part == len(depths) - 1:
        _draw_cuboid(canvas, image, item_faces[t], item.colour)
      else:
        person.draw(image, t, part)
    for mover in movers:
      if mover[1][t, 2] < body_depth:
        draw_mover(image, mover, t)
    frames[t] = cv2.resize(image, size, interpolation=cv2.INTER_AREA)

  # Lighting: brightness, colour temperature, a gradient across the image; sensor noise.
  gain = rng.uniform(0.7, 1.15) * rng.uniform(0.93, 1.07, size=3)
  slope = rng.uniform(-0.18, 0.18, size=2)
  across = (slope[0] * np.linspace(-1, 1, size[0])[None, :, None]
            + slope[1] * np.linspace(-1, 1, size[1])[:, None, None])
  frames *= ((1 + across) * gain).astype(np.float32)
  frames += rng.uniform(-12, 12)
  noise = rng.standard_normal(frames.shape, dtype=np.float32)
  noise *= rng.uniform(1.5, 4.5)
  frames += noise
  return np.clip(np.round(frames), 0, 255).astype(np.uint8)
