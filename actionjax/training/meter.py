"""How fast a training goes, and how long it has left."""
import contextlib
import sys
import time
from collections.abc import Callable

from tqdm import tqdm

from actionjax import console, distributed


class Meter:
  """Speed, waiting time and a progress bar (a terminal) or quiet lines (anything else)."""

  def __init__(self, start: int, total: int, batch_size: int,
               clock: Callable[[], float] = time.perf_counter):
    """Args: the step to start from, the last one, clips a step, and the time in seconds."""
    self._batch = batch_size
    self._clock = clock
    self._last = (start, clock())
    self._waited = self._paused = 0.0
    self._total = total
    shown = distributed.is_first() and sys.stderr.isatty()
    self._bar = tqdm(total=total, initial=start, unit="step", dynamic_ncols=True) if shown else None

  @contextlib.contextmanager
  def paused(self):
    """Within, the clock stands: for what is not training, such as validating and saving."""
    began = self._clock()
    try:
      yield
    finally:
      self._paused += self._clock() - began
      if self._bar is not None:
        self._bar.unpause()

  def time_waiting(self, feed):
    """The next batch; the time that it takes counts as waiting."""
    before = self._clock()
    batch = next(feed)
    self._waited += self._clock() - before
    if self._bar is not None:
      self._bar.update()
    return batch

  def row(self, step: int) -> dict:
    """Clips a second and the share of time that the loop waited for data, since the last."""
    last, when = self._last
    now = self._clock()
    elapsed = max(now - when - self._paused, 1e-9)
    row = {"clips_per_second": (step - last) * self._batch / elapsed,
           "data_wait_share": min(1.0, self._waited / elapsed)}
    self._last, self._waited, self._paused, self._row = (step, now), 0.0, 0.0, row
    return row

  def show(self, step: int, row: dict) -> None:
    """Tells a row of metrics, with the speed of the last `row` and the seconds left at it."""
    speed = self._row["clips_per_second"]
    left = (self._total - step) * self._batch / max(speed, 1e-9)
    if self._bar is not None:
      self._bar.set_postfix(loss=f"{row['loss']:.4f}", clips_per_s=f"{speed:.1f}")
    else:
      console.say(f"step {step}/{self._total} loss {row['loss']:.4f} top1 {row['top1']:.3f} "
                  f"{speed:.1f} clips/s, {left:.0f} s left")

  def close(self) -> None:
    """Ends the progress bar."""
    if self._bar is not None:
      self._bar.close()
