"""Where the generated people are filmed: cameras, rooms, furniture, moving distractors.

World frame: metres, x right, y up, z away from the frontal camera; the floor is y = 0.
Camera frame: x right, y up, z away from the camera, as Kinect gives skeletons.
Pixels: x right, y down, integers at pixel centres.
"""
import dataclasses

import numpy as np

IMAGE_SIZE = (320, 240)  # width, height of the imagined original video
FOCAL = 290.0  # pixels; close to Kinect's depth camera at this size
CENTRE = (159.5, 119.5)

# Azimuth in degrees (positive: the camera stands to the right, on the person's left-hand
# side), distance from the scene's middle and height in metres.
CAMERAS = ((0.0, 3.4, 1.25), (-35.0, 3.8, 1.7), (35.0, 3.6, 0.95))


def project(points: np.ndarray) -> np.ndarray:
  """Original pixels of points float[...,3] in the camera frame (metres); float[...,2]."""
  points = np.asarray(points)
  depth = np.maximum(points[..., 2], 0.1)
  return np.stack([CENTRE[0] + FOCAL * points[..., 0] / depth,
                   CENTRE[1] - FOCAL * points[..., 1] / depth], axis=-1)


@dataclasses.dataclass(frozen=True)
class Camera:
  """A camera's place and attitude.

  Attributes:
    position: float[3], world metres.
    rotation: float[3,3], rows are the camera's right, up and forward in the world.
  """
  position: np.ndarray
  rotation: np.ndarray

  def view(self, points: np.ndarray) -> np.ndarray:
    """World points float[...,3] in the camera frame."""
    return (points - self.position) @ self.rotation.T


def make_camera(rng: np.random.Generator, camera: int) -> Camera:
  """Camera `camera` of `CAMERAS`, set up a little differently for each clip."""
  azimuth, distance, height = CAMERAS[camera]
  azimuth = np.deg2rad(azimuth + rng.uniform(-4, 4))
  distance += rng.uniform(-0.15, 0.15)
  position = np.array([distance * np.sin(azimuth), height + rng.uniform(-0.08, 0.08),
                       -distance * np.cos(azimuth)])
  forward = np.array([rng.uniform(-0.08, 0.08), 1.0, 0.0]) - position
  forward /= np.linalg.norm(forward)
  right = np.array([forward[2], 0.0, -forward[0]])
  right /= np.linalg.norm(right)
  up = np.array([0.0, 1.0, 0.0]) - forward[1] * forward
  up /= np.linalg.norm(up)
  return Camera(position, np.stack([right, up, forward]))


@dataclasses.dataclass(frozen=True)
class Place:
  """Where a person stands and how it is turned about the vertical.

  Attributes:
    turn: radians, positive to the person's left.
    offset: float[3], world metres.
  """
  turn: float
  offset: np.ndarray

  def rotate(self, vectors: np.ndarray) -> np.ndarray:
    """Body-frame vectors float[...,3] in the world."""
    cos, sin = np.cos(self.turn), np.sin(self.turn)
    return vectors @ np.array([[cos, 0.0, sin], [0.0, 1.0, 0.0], [-sin, 0.0, cos]])

  def to_world(self, points: np.ndarray) -> np.ndarray:
    """Body-frame points float[...,3] in the world."""
    return self.rotate(points) + self.offset


def make_place(rng: np.random.Generator) -> Place:
  """A place near the scene's middle, turned by up to 15 degrees."""
  return Place(np.deg2rad(rng.uniform(-15, 15)),
               np.array([rng.uniform(-0.3, 0.3), 0.0, rng.uniform(-0.2, 0.3)]))


# Corners of a unit cuboid, centred in x and z, standing on y = 0; its faces as corners.
_CORNERS = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (0, 1) for z in (-0.5, 0.5)])
_FACES = np.array([[0, 1, 3, 2], [4, 5, 7, 6], [0, 1, 5, 4], [2, 3, 7, 6], [0, 2, 6, 4],
                   [1, 3, 7, 5]])
_SHADES = (0.75, 0.75, 0.6, 1.15, 0.9, 0.9)  # the sides, bottom, top, front, back


@dataclasses.dataclass(frozen=True)
class Solid:
  """A cuboid or a ball, at rest (T = 1) or moving.

  Attributes:
    kind: "cuboid" or "ball".
    colour: float[3], RGB 0-255.
    size: float[3], metres: width, height, depth; of a ball its diameter, thrice.
    centre: float[T,3], world metres: middle of a cuboid's floor, or of a ball.
    turn: radians about the vertical.
  """
  kind: str
  colour: np.ndarray
  size: np.ndarray
  centre: np.ndarray
  turn: float = 0.0

  def faces(self, camera: Camera):
    """The faces of a cuboid that the camera sees.

    Returns:
      A list over T of lists of (corners float[4,2] in original pixels, shade).
    """
    cos, sin = np.cos(self.turn), np.sin(self.turn)
    corners = (_CORNERS * self.size) @ np.array([[cos, 0, sin], [0, 1, 0], [-sin, 0, cos]])
    corners = camera.view(corners + self.centre[:, None])
    middle = corners.mean(axis=1)
    pixels = project(corners)
    seen = []
    for t in range(len(corners)):
      # A face is seen if it lies on the camera's side of the cuboid's middle.
      normals = corners[t][_FACES].mean(axis=1) - middle[t]
      points = corners[t][_FACES].mean(axis=1)
      facing = np.einsum("fc,fc->f", normals, points) < 0
      seen.append([(pixels[t][_FACES[f]], _SHADES[f]) for f in np.flatnonzero(facing)])
    return seen


@dataclasses.dataclass(frozen=True)
class Room:
  """What surrounds the person, drawn independently of class and camera.

  Attributes:
    wall, floor: float[3], RGB 0-255.
    wall_depth: metres from the scene's middle to the wall that the camera looks at.
    pictures: rectangles on the wall in metres, float[P,4] (x, y, width, height).
    picture_colours: float[P,3].
    still: furniture, far from the person.
    moving: balls and boxes that move about.
    texture: float[h,w,1], a coarse pattern of brightness.
  """
  wall: np.ndarray
  floor: np.ndarray
  wall_depth: float
  pictures: np.ndarray
  picture_colours: np.ndarray
  still: tuple[Solid, ...]
  moving: tuple[Solid, ...]
  texture: np.ndarray


def make_colour(rng: np.random.Generator, low: float = 40, high: float = 230) -> np.ndarray:
  """A random colour, float[3], RGB 0-255."""
  return rng.uniform(low, high, size=3)


def _mover(rng, times):
  """A ball that bounces or a box that slides through the scene, in front or behind."""
  ball = rng.random() < 0.6
  size = rng.uniform(0.1, 0.26)
  velocity = rng.choice([-1, 1]) * rng.uniform(0.3, 1.1)
  middle = rng.uniform(-0.8, 0.8)
  x = middle + velocity * (times - times.mean())
  # Nothing passes through the person: the ball goes by behind, or in front if small.
  z = rng.uniform(0.8, 1.6) if size > 0.17 or rng.random() < 0.6 else -rng.uniform(0.9, 1.2)
  y = np.zeros_like(times)
  if ball:
    height, period, phase = rng.uniform(0.1, 1.3), rng.uniform(0.7, 1.4), rng.random()
    u = (times / period + phase) % 1.0
    y = size / 2 + height * 4 * u * (1 - u)
  elif rng.random() < 0.5:
    y = y + rng.uniform(0.3, 1.5)  # on an unseen shelf, a drone, a hanging lamp
  return Solid("ball" if ball else "cuboid", make_colour(rng), np.full(3, size),
               np.stack([x, y, np.full_like(times, z)], axis=-1), rng.uniform(0, np.pi))


def make_room(rng: np.random.Generator, camera: Camera, num_frames: int, fps: float) -> Room:
  """A random room for one clip, built around the camera's line of sight."""
  times = np.arange(num_frames) / fps
  forward = camera.rotation[2] * np.array([1.0, 0.0, 1.0])
  forward /= np.linalg.norm(forward)
  right = camera.rotation[0]

  def place(solid):  # from (right, up, forward) of this camera to the world
    centre = solid.centre
    world = centre[:, :1] * right + centre[:, 2:] * forward
    world[:, 1] = centre[:, 1]
    return dataclasses.replace(solid, centre=world)

  wall_depth = rng.uniform(1.7, 2.8)
  still = []
  for _ in range(rng.integers(2, 6)):
    size = np.array([rng.uniform(0.2, 0.9), rng.uniform(0.3, 1.7), rng.uniform(0.2, 0.5)])
    centre = np.array([[rng.uniform(-1.6, 1.6), 0.0, rng.uniform(1.0, wall_depth - 0.3)]])
    still.append(place(Solid("cuboid", make_colour(rng), size, centre,
                             rng.uniform(-0.5, 0.5))))
  still.sort(key=lambda solid: -camera.view(solid.centre)[0, 2])
  moving = tuple(place(_mover(rng, times)) for _ in range(rng.integers(1, 4)))
  count = rng.integers(1, 5)
  pictures = np.stack([rng.uniform(-1.6, 1.2, count), rng.uniform(0.7, 2.0, count),
                       rng.uniform(0.2, 0.9, count), rng.uniform(0.2, 0.8, count)], axis=-1)
  cells = rng.integers(4, 24)
  texture = rng.normal(0, rng.uniform(3, 14), size=(cells, cells)).astype(np.float32)
  return Room(wall=make_colour(rng, 70, 220), floor=make_colour(rng, 60, 190),
              wall_depth=wall_depth, pictures=pictures,
              picture_colours=np.stack([make_colour(rng) for _ in range(count)]),
              still=tuple(still), moving=moving, texture=texture)
