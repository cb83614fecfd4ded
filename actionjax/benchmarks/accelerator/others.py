"""What is no network: heat maps alone, and the search for superclasses."""
import time

import jax

from actionjax import skeletons
from actionjax.benchmarks import heatmaps as heatmap_cases
from actionjax.benchmarks import superclasses as superclass_cases
from actionjax.benchmarks.accelerator import device
from actionjax.hierarchy import search
from actionjax.ops import compilation, heatmaps


class Others:
  """Called in a process that holds the device. Rows have `what`, `value`, `unit`, `bytes_per_s`."""

  def heatmaps(self, small: bool) -> list[dict]:
    """Drawing maps of 48 frames, milliseconds a clip, and the bytes written a second."""
    batch, frames = (1, 4) if small else (64, 48)
    layout = skeletons.layout("coco_17")
    rows = []
    for kind, persons, size in heatmap_cases.CASES:
      arrays = jax.device_put(heatmap_cases.example(batch, persons, frames, 17, size))
      draw = jax.jit(lambda p, s, size=size, kind=kind: heatmaps.heatmaps(
          p, s, size, layout, kind=kind), compiler_options=compilation.compiler_options())
      seconds = device.repeat(lambda arrays=arrays, draw=draw: draw(*arrays), 2 if small else 50)
      rows.append({"what": f"heat maps: {kind}, {persons} person{'s' * (persons > 1)}, "
                           f"{frames}x{size[0]}x{size[1]}, {batch} at once",
                   "value": 1e3 * seconds / batch, "unit": "ms a clip",
                   "bytes_per_s": draw(*arrays).nbytes / seconds})
    return rows

  def superclasses(self, small: bool) -> list[dict]:
    """The search of 120 classes from 1000 starts, milliseconds, once it is compiled."""
    costs, restarts = superclass_cases.example_costs(), 10 if small else 1000
    rows = []
    for count in superclass_cases.SUPERCLASSES:
      times = []
      for _ in range(2 if small else 4):
        start = time.perf_counter()
        search.search(costs, count, restarts=restarts, seed=0)
        times.append(time.perf_counter() - start)
      rows.append({"what": f"superclass search: 120 classes to {count}, {restarts} starts",
                   "value": 1e3 * min(times[1:]), "unit": "ms"})
    return rows
