"""An object for another process, for tests of calls through pipes."""
import os
import time


class Toy:
  """Counts its calls, and fails on request."""

  def __init__(self):
    self.calls = 0

  def add(self, a, b=0):
    self.calls += 1
    return a + b

  def count(self):
    return self.calls

  def fail(self, text):
    raise ValueError(text)

  def die(self):
    os._exit(7)

  def sleep(self, seconds):
    time.sleep(seconds)
    return "awake"
