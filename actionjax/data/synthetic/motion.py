"""How the generated people move: bodies, joint angles, forward kinematics, actions.

Body frame: metres, x to the person's left, y up, z backwards (the person faces -z),
the origin on the floor between the resting feet. That is also the camera convention of
Kinect seen by a camera that the person faces: x right, y up, z away.

An action is one of seven base motions, as it is, mirrored (left and right exchanged) or
played backwards. So the two classes of a pair share every property but the one that
tells them apart.
"""
import dataclasses

import numpy as np

from actionjax import skeletons

LAYOUT = skeletons.KINECT_V1_20
SIDES = (("left", 1.0), ("right", -1.0))
ANKLE_HEIGHT = 0.08  # metres; of the ankle joint over the floor
OBJECT_SIZE = 0.2  # metres; edge of the box that is picked up and put down


@dataclasses.dataclass(frozen=True)
class Action:
  """A class: its name, base motion, and what is done to the base motion."""
  name: str
  base: str
  mirrored: bool = False
  backwards: bool = False


ACTIONS = (
    Action("wave_left_hand", "wave"), Action("wave_right_hand", "wave", mirrored=True),
    Action("kick_left", "kick"), Action("kick_right", "kick", mirrored=True),
    Action("sit_down", "sit"), Action("stand_up", "sit", backwards=True),
    Action("pick_up", "pick"), Action("put_down", "pick", backwards=True),
    Action("push_away", "push"), Action("pull_in", "push", backwards=True),
    Action("clap_hands", "clap"), Action("jumping_jacks", "jacks"),
)


@dataclasses.dataclass(frozen=True)
class Body:
  """One subject: bone lengths (metres) and manner.

  Attributes:
    bones: length of the bone that ends in each joint name without its side.
    girth: factor on the thickness of every limb when drawn.
    amplitude: factor on the size of this subject's movements.
    tempo: factor on the duration of this subject's movements.
    manner: offsets of the resting pose in radians, float[len(CHANNELS)].
  """
  bones: dict[str, float]
  girth: float
  amplitude: float
  tempo: float
  manner: np.ndarray


@dataclasses.dataclass(frozen=True)
class Motion:
  """One performance, in the body frame.

  Attributes:
    joints: float[T,20,3], metres, layout `kinect_v1_20`, without sensor noise.
    face: float[T,3], unit vectors, where the face looks.
    item: float[T,3], metres, centre of the box on the floor or in the hands.
  """
  joints: np.ndarray
  face: np.ndarray
  item: np.ndarray


# The degrees of freedom, in radians, `jump` in metres. A limb's `raise` is its angle from
# hanging down, `out` the direction of raising (0 forwards, 90 degrees to its own side),
# `bend` the elbow or knee, `twist` the direction in which an elbow bends.
CHANNELS = ("lean", "tilt", "turn", "nod", "jump",
            *(f"{side}_{name}" for side, _ in SIDES for name in
              ("arm_raise", "arm_out", "arm_bend", "arm_twist",
               "leg_raise", "leg_out", "leg_bend", "toe")))
_CHANNEL = {name: i for i, name in enumerate(CHANNELS)}


def _pose(base=None, **degrees) -> np.ndarray:
  """A pose vector, float[len(CHANNELS)]; a name without its side sets both sides."""
  pose = np.zeros(len(CHANNELS)) if base is None else base.copy()
  for name, value in degrees.items():
    if name in _CHANNEL:
      pose[_CHANNEL[name]] = np.deg2rad(value)
    else:
      for side, _ in SIDES:
        pose[_CHANNEL[f"{side}_{name}"]] = np.deg2rad(value)
  return pose


_REST = _pose(arm_raise=9, arm_out=30, arm_bend=14)
_SEATED = _pose(lean=4, arm_raise=26, arm_out=8, arm_bend=52, leg_raise=84, leg_bend=84)
_STOOPED = _pose(lean=68, nod=-25, arm_raise=72, arm_out=-6, arm_bend=8,
                 leg_raise=72, leg_bend=92)
_HOLDING = _pose(lean=-3, arm_raise=22, arm_out=0, arm_bend=82, arm_twist=-14)
_GRAB = 0.5  # phase of "pick" at which the hands reach the box


def make_body(rng: np.random.Generator) -> Body:
  """Draws one subject: 1.55 to 1.9 m tall, with its own proportions and manner."""
  scale = rng.uniform(1.55, 1.9) / 1.75
  trunk, arm, leg, broad = rng.uniform(0.95, 1.06, size=4)
  bones = {"spine": 0.12 * trunk, "shoulder_centre": 0.38 * trunk, "head": 0.19,
           "shoulder": 0.18 * broad, "elbow": 0.29 * arm, "wrist": 0.25 * arm, "hand": 0.08,
           "hip": 0.105 * broad, "knee": 0.42 * leg, "ankle": 0.40 * leg, "foot": 0.16}
  manner = np.deg2rad(rng.uniform(-1, 1, size=len(CHANNELS)))
  for name, degrees in (("lean", 3), ("nod", 5), ("arm_raise", 4), ("arm_bend", 8)):
    for channel in CHANNELS:
      if channel.endswith(name):
        manner[_CHANNEL[channel]] *= degrees
  for channel in CHANNELS:
    if channel == "jump" or "leg" in channel or "toe" in channel:
      manner[_CHANNEL[channel]] = 0.0  # everyone stands straight, both feet on the floor
  return Body(bones={name: scale * length for name, length in bones.items()},
              girth=scale * rng.uniform(0.88, 1.18), amplitude=rng.uniform(0.93, 1.07),
              tempo=rng.uniform(0.88, 1.12), manner=manner)


def _axes(x, y, z):
  """Rotation matrices float[T,3,3] with the given columns, each a triple of float[T]."""
  return np.stack([np.stack(np.broadcast_arrays(*column), -1) for column in (x, y, z)], -1)


def _rotation(lean, tilt, turn):
  """Trunk rotation float[T,3,3]: forwards by lean, to the left by tilt and by turn."""
  zero, one = np.zeros_like(lean), np.ones_like(lean)
  pitch = _axes((one, zero, zero), (zero, np.cos(lean), -np.sin(lean)),
                (zero, np.sin(lean), np.cos(lean)))
  roll = _axes((np.cos(tilt), -np.sin(tilt), zero), (np.sin(tilt), np.cos(tilt), zero),
               (zero, zero, one))
  yaw = _axes((np.cos(turn), zero, np.sin(turn)), (zero, one, zero),
              (-np.sin(turn), zero, np.cos(turn)))
  return yaw @ roll @ pitch


def _limb(raised, out, bend, twist, side):
  """Directions float[T,3] of a limb's upper and lower segment, in its parent's frame."""
  sr, cr, so, co = np.sin(raised), np.cos(raised), np.sin(out), np.cos(out)
  upper = np.stack([side * sr * so, -cr, -sr * co], -1)
  upwards = np.stack([side * cr * so, sr, -cr * co], -1)
  sideways = np.stack([side * co, np.zeros_like(co), so], -1)
  towards = np.cos(twist)[:, None] * upwards + np.sin(twist)[:, None] * sideways
  return upper, np.cos(bend)[:, None] * upper + np.sin(bend)[:, None] * towards


def _unit(x, y, z):
  vector = np.array([x, y, z], float)
  return vector / np.linalg.norm(vector)


def forward_kinematics(body: Body, angles: np.ndarray, support=(0.5, 0.5)):
  """Joint positions from joint angles.

  Args:
    body: bone lengths.
    angles: float[T,C], see `CHANNELS`.
    support: shares of the left and right ankle in the point that stays in place.

  Returns:
    joints float[T,20,3] in the body frame, and the face's direction float[T,3].
  """
  q = {name: angles[:, i] for i, name in enumerate(CHANNELS)}
  length = body.bones
  at = {"hip_centre": np.zeros((len(angles), 3))}
  trunk = _rotation(q["lean"], q["tilt"], q["turn"])
  hips = _rotation(0.7 * q["lean"], 0.5 * q["tilt"], 0.3 * q["turn"])
  head = _rotation(0.8 * q["lean"] + q["nod"], 0.5 * q["tilt"], q["turn"])
  up = np.array([0.0, 1.0, 0.0])
  at["spine"] = at["hip_centre"] + length["spine"] * hips @ up
  at["shoulder_centre"] = at["spine"] + length["shoulder_centre"] * trunk @ up
  at["head"] = at["shoulder_centre"] + length["head"] * head @ up
  for side, sign in SIDES:
    at[f"{side}_shoulder"] = (at["shoulder_centre"]
                              + length["shoulder"] * trunk @ _unit(sign, -0.2, 0))
    upper, lower = _limb(q[f"{side}_arm_raise"], q[f"{side}_arm_out"], q[f"{side}_arm_bend"],
                         q[f"{side}_arm_twist"], sign)
    upper, lower = (np.einsum("tij,tj->ti", trunk, part) for part in (upper, lower))
    at[f"{side}_elbow"] = at[f"{side}_shoulder"] + length["elbow"] * upper
    at[f"{side}_wrist"] = at[f"{side}_elbow"] + length["wrist"] * lower
    at[f"{side}_hand"] = at[f"{side}_wrist"] + length["hand"] * lower
    at[f"{side}_hip"] = at["hip_centre"] + length["hip"] * _unit(sign, -0.5, 0)
    back = np.full(len(angles), np.pi)  # knees bend the other way than elbows
    upper, lower = _limb(q[f"{side}_leg_raise"], q[f"{side}_leg_out"], q[f"{side}_leg_bend"],
                         back, sign)
    at[f"{side}_knee"] = at[f"{side}_hip"] + length["knee"] * upper
    at[f"{side}_ankle"] = at[f"{side}_knee"] + length["ankle"] * lower
    toe = q[f"{side}_toe"] - 0.35
    aside = sign * 0.25 * np.cos(toe)  # feet point a little outwards
    ahead = -np.sqrt(1 - 0.25 ** 2) * np.cos(toe)
    at[f"{side}_foot"] = (at[f"{side}_ankle"]
                          + length["foot"] * np.stack([aside, np.sin(toe), ahead], -1))
  joints = np.stack([at[name] for name in LAYOUT.joints], axis=1)

  # Stand on the floor (the lowest sole touches it) and keep the supporting foot in place.
  resting = length["hip"] * np.stack([_unit(sign, -0.5, 0) for _, sign in SIDES])
  anchor = np.asarray(support) @ resting
  ankles = np.stack([at["left_ankle"], at["right_ankle"]], axis=1)
  shift = anchor - np.einsum("s,tsc->tc", np.asarray(support), ankles)
  shift[:, 1] = ANKLE_HEIGHT - ankles[..., 1].min(axis=1) + q["jump"]
  return joints + shift[:, None], head @ np.array([0.0, 0.0, -1.0])


def _ease(u):
  """Minimum-jerk course from 0 to 1 for u in [0, 1], constant outside."""
  u = np.clip(u, 0, 1)
  return u ** 3 * (10 - 15 * u + 6 * u ** 2)


def _through(s, *keys):
  """Minimum-jerk passage through (phase, pose) keys at phases s [T]; float[T,C]."""
  course = np.repeat(keys[0][1][None], len(s), axis=0)
  for (start, before), (end, after) in zip(keys[:-1], keys[1:]):
    course += _ease((s - start) / (end - start))[:, None] * (after - before)
  return course


def _window(s, start, end, edge=0.08):
  """Smooth 0-1-0 envelope of an oscillation within [start, end] of the phase."""
  return _ease((s - start) / edge) * _ease((end - s) / edge)


def _wave(s, rng):
  up = _pose(_REST, left_arm_raise=rng.uniform(88, 118), left_arm_out=rng.uniform(65, 95),
             left_arm_bend=rng.uniform(70, 92), tilt=-3, nod=-4)
  course = _through(s, (0.0, _REST), (0.24, up), (0.78, up), (1.0, _REST))
  cycles, first = rng.uniform(2.0, 2.9), rng.choice([-1, 1])
  swing = np.deg2rad(rng.uniform(28, 42)) * _window(s, 0.2, 0.82)
  course[:, _CHANNEL["left_arm_bend"]] += (
      first * swing * np.sin(2 * np.pi * cycles * (s - 0.2) / 0.62))
  return course


def _kick(s, rng):
  # A little outwards and with the trunk leaning away, so that a frontal camera, for which
  # the leg is foreshortened, sees the side as well.
  back = _pose(_REST, left_leg_raise=-rng.uniform(12, 28), left_leg_bend=rng.uniform(40, 65),
               lean=8, right_arm_raise=15, left_arm_raise=20)
  high = _pose(_REST, left_leg_raise=rng.uniform(60, 85), left_leg_out=rng.uniform(12, 35),
               left_leg_bend=6, left_toe=45, lean=-10, tilt=-8, right_arm_raise=30,
               right_arm_out=15, left_arm_raise=38, left_arm_out=80)
  return _through(s, (0.0, _REST), (0.32, back), (0.6, high), (1.0, _REST))


def _sit(s, rng):
  halfway = _pose(lean=rng.uniform(24, 38), nod=-10, arm_raise=35, arm_out=8, arm_bend=25,
                  leg_raise=45, leg_bend=48)
  seated = _pose(_SEATED, lean=rng.uniform(-2, 9), leg_raise=rng.uniform(81, 87),
                 leg_bend=rng.uniform(81, 87))
  # Overlapping halves: the body must not stop halfway down.
  course = _through(s, (0.0, _REST), (0.75, halfway))
  return course + _ease((s - 0.25) / 0.75)[:, None] * (seated - halfway)


def _pick(s, rng):
  stooped = _pose(_STOOPED, lean=rng.uniform(62, 74), leg_raise=rng.uniform(66, 78))
  holding = _pose(_HOLDING, arm_raise=rng.uniform(14, 30), arm_bend=rng.uniform(74, 92))
  return _through(s, (0.0, _REST), (_GRAB, stooped), (1.0, holding))


def _push(s, rng):
  # Between the waist and shoulder height: seen from the front, where the reach is
  # foreshortened, the hands still rise or fall.
  close = _pose(arm_raise=-rng.uniform(10, 26), arm_out=rng.uniform(-20, 0),
                arm_bend=rng.uniform(88, 104), arm_twist=-10, lean=-6)
  away = _pose(arm_raise=rng.uniform(86, 102), arm_out=rng.uniform(-8, 6), arm_bend=8,
               lean=rng.uniform(8, 18))
  return _through(s, (0.0, close), (1.0, away))


def _clap(s, rng):
  closed = _pose(_REST, arm_raise=rng.uniform(36, 56), arm_out=4, arm_bend=rng.uniform(52, 68),
                 arm_twist=-50)
  course = _through(s, (0.0, _REST), (0.18, closed), (0.84, closed), (1.0, _REST))
  cycles = rng.uniform(2.6, 3.8)
  opening = (_window(s, 0.1, 0.9)
             * 0.5 * (1 - np.cos(2 * np.pi * cycles * (s - 0.1) / 0.8)))
  for side, _ in SIDES:
    course[:, _CHANNEL[f"{side}_arm_out"]] += np.deg2rad(28) * opening
    course[:, _CHANNEL[f"{side}_arm_twist"]] += np.deg2rad(50) * opening
  return course


def _jacks(s, rng):
  star = _pose(_REST, arm_raise=rng.uniform(138, 165), arm_out=88, arm_bend=10,
               leg_raise=rng.uniform(20, 28), leg_out=90)
  close = _pose(_REST, arm_out=88, leg_out=90)
  cycle = np.where((s > 0) & (s < 1), (2 * s) % 1.0, 0.0)
  spread = _ease(cycle / 0.5) - _ease((cycle - 0.5) / 0.5)
  course = _through(s, (0.0, _REST), (0.12, close), (0.88, close), (1.0, _REST))
  course += spread[:, None] * (star - close)
  course[:, _CHANNEL["jump"]] = rng.uniform(0.05, 0.11) * np.sin(2 * np.pi * cycle) ** 2
  return course


# Base motion: course, range of its duration in seconds, supporting feet, and whether its
# size may vary with the subject (sitting ends on the stool, stooping at the box).
_BASES = {
    "wave": (_wave, (1.6, 2.1), (0.5, 0.5), True),
    "kick": (_kick, (1.0, 1.6), (0.0, 1.0), True),
    "sit": (_sit, (1.0, 1.7), (0.5, 0.5), False),
    "pick": (_pick, (1.3, 1.9), (0.5, 0.5), False),
    "push": (_push, (0.7, 1.3), (0.5, 0.5), False),
    "clap": (_clap, (1.6, 2.1), (0.5, 0.5), True),
    "jacks": (_jacks, (1.6, 2.1), (0.5, 0.5), True),
}


def item_place(body: Body) -> np.ndarray:
  """Where the box rests on the floor for this body: float[3], body frame."""
  joints, _ = forward_kinematics(body, _STOOPED[None] + body.manner)
  place = joints[0, [LAYOUT.index("left_hand"), LAYOUT.index("right_hand")]].mean(axis=0)
  return np.array([0.0, OBJECT_SIZE / 2, place[2]])


def seat_place(body: Body) -> np.ndarray:
  """Top centre of the stool on which this body sits: float[3], body frame."""
  joints, _ = forward_kinematics(body, _SEATED[None])
  hips = joints[0, [LAYOUT.index("left_hip"), LAYOUT.index("right_hip")]].mean(axis=0)
  return np.array([0.0, hips[1] - 0.085 * body.girth, hips[2] + 0.03])


def _sway(rng, times):
  """Small slow movements of someone who stands still, float[T,C] radians."""
  size = np.full(len(CHANNELS), np.deg2rad(1.5))
  for channel in CHANNELS:
    if channel == "jump" or "leg" in channel or "toe" in channel:
      size[_CHANNEL[channel]] = 0.0
  frequency = rng.uniform(0.2, 0.8, size=len(CHANNELS))
  phase = rng.uniform(0, 2 * np.pi, size=len(CHANNELS))
  size = size * rng.uniform(0.3, 1.6, size=len(CHANNELS))
  return size * np.sin(2 * np.pi * frequency * times[:, None] + phase)


def mirror(points: np.ndarray) -> np.ndarray:
  """Mirror image of points float[...,3] in the body frame (no exchange of joints)."""
  return points * np.array([-1.0, 1.0, 1.0])


def perform(action: Action, body: Body, rng: np.random.Generator, num_frames: int,
            fps: float) -> Motion:
  """One performance of an action: random size, speed, idle time before and after.

  The same generator state gives exact mirror images for a one-limb pair, and exact
  reversals for a pair that differs in time order. Idle time falls before and after the
  movement with equal chances, so that a reversed clip is as likely as its original.

  Args:
    action: one of `ACTIONS`.
    body: the subject.
    rng: the clip's generator.
    num_frames: T.
    fps: frames per second.

  Returns:
    A Motion of T frames in the body frame.
  """
  course, (shortest, longest), support, free = _BASES[action.base]
  times = (np.arange(num_frames) + 0.5) / fps
  whole = num_frames / fps
  duration = min(body.tempo * rng.uniform(shortest, longest), 0.98 * whole)
  phase = (times - rng.uniform(0, 1) * (whole - duration)) / duration
  angles = course(phase, rng)
  size = body.amplitude * rng.uniform(0.9, 1.1)
  if free:
    angles = _REST + size * (angles - _REST)
  angles = angles + body.manner + _sway(rng, times)
  joints, face = forward_kinematics(body, angles, support)

  item = np.repeat(item_place(body)[None], num_frames, axis=0)
  if action.base == "pick":
    hands = joints[:, [LAYOUT.index("left_hand"), LAYOUT.index("right_hand")]].mean(axis=1)
    # The grip closes around the resting box, then the box follows the hands.
    grip = _ease((phase - _GRAB) / 0.2)[:, None]
    item = (1 - grip) * item + grip * hands
  if action.mirrored:
    joints, face, item = mirror(joints[:, LAYOUT.mirror]), mirror(face), mirror(item)
  if action.backwards:
    joints, face, item = joints[::-1], face[::-1], item[::-1]
  return Motion(*(np.ascontiguousarray(x) for x in (joints, face, item)))
