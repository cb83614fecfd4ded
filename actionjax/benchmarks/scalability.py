"""What further persons cost: PoseC3D beside MS-G3D and ST-GCN++ (PoseC3D, section 4.4.3).

Heat maps of one person are as large as those of thirteen, while a graph network runs once a person
(the paper's is MS-G3D). All see a clip as in the paper's Volleyball experiment, in float32 and from
coordinates on, so that drawing counts. The contestants take turns in one process; the table gives
medians.
"""
import dataclasses
import statistics
import time
from collections.abc import Mapping

import jax
import numpy as np

from actionjax.benchmarks import heatmaps
from actionjax.models import msg3d, posec3d, stgcn
from actionjax.ops import compilation

PERSONS = (1, 2, 4, 8, 13)
# The narrow network reads 12 of the clip's 20 frames, graph networks all of them.
CNN_FRAMES, GCN_FRAMES = 12, 20
SIZE = (56, 56)
_CLASSES = 8
_NAMES = {"cnn": "PoseC3D", "gcn": "ST-GCN++", "msg3d": "MS-G3D"}


@dataclasses.dataclass
class _Contestant:
  """A network's forward pass on a clip of some persons, compiled."""
  flops: float
  parameters: int
  call: object


def run(rounds: int = 9, persons: tuple[int, ...] = PERSONS, backbone: dict | None = None,
        frames: tuple[int, int] = (CNN_FRAMES, GCN_FRAMES), gcn: Mapping | None = None,
        ms_g3d: Mapping | None = None) -> list[dict]:
  """Measures and prints the table.

  Args:
    rounds: timed turns of each network, after two that are not counted.
    persons: numbers of persons.
    backbone: of PoseC3D (default: `posec3d.SLOWONLY_NARROW`).
    frames: that PoseC3D and the graph networks see.
    gcn, ms_g3d: fields of `stgcn.Model` and of `msg3d.Model`.

  Returns:
    One dict for each number: `persons`; for "cnn", "gcn" and "msg3d" each `NAME_gflops` (of a
    forward pass, before XLA optimises it), `NAME_ms` and `NAME_parameters`.
  """
  cnn = posec3d.Model(_CLASSES, "coco_17", backbone or posec3d.SLOWONLY_NARROW,
                      dict(size=SIZE))
  graph = stgcn.Model(_CLASSES, "coco_17", **(gcn or {}))
  multi_scale = msg3d.Model(_CLASSES, "coco_17", **(ms_g3d or {}))
  clips = {(name, count): _contestant(model, count, length) for count in persons
           for name, model, length in (("cnn", cnn, frames[0]), ("gcn", graph, frames[1]),
                                       ("msg3d", multi_scale, frames[1]))}
  times = {key: [] for key in clips}
  for turn in range(rounds + 2):
    for key, clip in clips.items():
      start = time.perf_counter()
      clip.call()
      if turn >= 2:
        times[key].append((time.perf_counter() - start) * 1e3)
  rows = []
  for count in persons:
    row = {"persons": count}
    for name in _NAMES:
      clip = clips[name, count]
      row |= {f"{name}_gflops": clip.flops / 1e9, f"{name}_parameters": clip.parameters,
              f"{name}_ms": statistics.median(times[name, count])}
    rows.append(row)
  print(table(rows, frames))
  return rows


def table(rows: list[dict], frames: tuple[int, int] = (CNN_FRAMES, GCN_FRAMES)) -> str:
  """The rows of `run` as text."""
  device, first = jax.devices()[0], rows[0]
  lines = [f"Forward pass of one clip, float32, {device.device_kind} ({device.platform}); PoseC3D "
           f"({first['cnn_parameters']:,} parameters) on {frames[0]} frames of "
           f"{SIZE[0]}x{SIZE[1]}, ST-GCN++ ({first['gcn_parameters']:,}) and MS-G3D "
           f"({first['msg3d_parameters']:,}) on {frames[1]}",
           f"{'persons':<9}" + "".join(f"{name + unit:>17}" for unit in (" GFLOPs", " ms")
                                       for name in _NAMES.values())]
  for row in rows:
    lines.append(f"{row['persons']:<9}"
                 + "".join(f"{row[f'{name}_gflops']:>17.2f}" for name in _NAMES)
                 + "".join(f"{row[f'{name}_ms']:>17.1f}" for name in _NAMES))
  return "\n".join(lines)


def _contestant(model, persons: int, frames: int) -> _Contestant:
  points, score = heatmaps.example(1, persons, frames, 17, SIZE)
  batch = jax.device_put({"pose2d": points, "pose_score": score})
  variables = jax.jit(lambda: model.init(jax.random.key(0, impl="rbg"), batch, train=False),
                      compiler_options={"xla_backend_optimization_level": 0})()
  lowered = jax.jit(lambda variables, batch: model.apply(variables, batch, train=False)[0],
                    compiler_options=compilation.compiler_options()).lower(variables, batch)
  compiled = lowered.compile()
  return _Contestant(
      lowered.cost_analysis()["flops"],
      sum(int(np.prod(leaf.shape)) for leaf in jax.tree.leaves(variables["params"])),
      lambda: jax.block_until_ready(compiled(variables, batch)))
