"""Watches a parser at work: which way its code goes, how long, and what else it does."""
import contextlib
import os
import resource
import signal
import sys
import tempfile

# What no parser has any business with, by the interpreter's audit events.
_FORBIDDEN = (
    "os.system", "os.exec", "os.fork", "os.forkpty", "os.posix_spawn", "os.spawn", "os.startfile",
    "subprocess.", "pty.", "socket.", "urllib.", "http.", "ftplib.", "smtplib.", "ctypes.dlopen",
    "marshal.", "pickle.find_class", "shutil.", "os.remove", "os.rename", "os.rmdir", "os.mkdir",
    "os.chmod", "os.chown", "os.link", "os.symlink", "os.truncate", "os.putenv")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class TooSlow(BaseException):
  """An input takes more processor time than it may; no parser's `except Exception` stops it."""


class Watch:
  """Follows calls of a parser. One for a process: its audit hook can't be taken away again.

  Args:
    modules: whose lines are followed.
    folder: with the parser's files; nothing else may be opened but temporary files and the
      installed Python's.
    seconds: of processor time for one call.

  Attributes:
    edges: (line, next line) as taken in the last call.
    misdeeds: what it did in the last call that it may not, as text.
  """

  def __init__(self, modules, folder, seconds: float):
    self._files = {module.__file__ for module in modules}
    self._roots = tuple(os.path.realpath(root) for root in (folder, sys.prefix, sys.base_prefix))
    self._temporary = os.path.realpath(tempfile.gettempdir())
    self._seconds = seconds
    self._on = False
    self.edges, self.misdeeds, self._last = set(), [], None
    signal.signal(signal.SIGPROF, self._stop)
    sys.addaudithook(self._audit)

  @contextlib.contextmanager
  def __call__(self):
    """The context in which the parser is called."""
    self.edges, self.misdeeds, self._last = set(), [], None
    # Processor time, because the machine may be busy with something else.
    signal.setitimer(signal.ITIMER_PROF, self._seconds)
    self._on = True
    sys.settrace(self._enter)
    try:
      yield
    finally:
      sys.settrace(None)
      self._on = False
      signal.setitimer(signal.ITIMER_PROF, 0)

  def _stop(self, *_):
    if self._on:
      raise TooSlow(f"more than {self._seconds:g} s of processor time")

  def _enter(self, frame, event, argument):
    return self._step if frame.f_code.co_filename in self._files else None

  def _step(self, frame, event, argument):
    if event == "line":
      here = (frame.f_code, frame.f_lineno)
      self.edges.add((self._last, here))
      self._last = here
    elif (event == "exception" and issubclass(argument[0], MemoryError)
          # FFmpeg refuses to set aside more than two gigabytes by itself, and touches none of it.
          and not argument[0].__module__.startswith("av.")):
      # Parsers turn it into their own error: what it was is seen only here.
      self.misdeeds.append(f"allocates beyond the bound, at {_place(frame)}")
    return self._step

  def _audit(self, event, arguments):
    if not self._on:
      return
    if event == "open":
      path, _, flags = arguments
      if isinstance(path, int):
        return
      path = os.path.realpath(os.fsdecode(path))
      allowed = self._temporary if (flags or 0) & _WRITING else (self._temporary, *self._roots)
      if not path.startswith(allowed):
        self.misdeeds.append(f"opens {path}")
    elif event.startswith(_FORBIDDEN):
      if event == "os.remove" and str(arguments[0]).startswith(self._temporary):
        return
      self.misdeeds.append(f"{event} {arguments!r:.100}")


def _place(frame) -> str:
  return f"{os.path.basename(frame.f_code.co_filename)}:{frame.f_lineno}"


def bound_memory(more: int) -> None:
  """Limits this process to so many bytes of memory beyond what it has now."""
  with open("/proc/self/statm") as file:
    pages = int(file.read().split()[0])
  most = pages * resource.getpagesize() + more
  resource.setrlimit(resource.RLIMIT_AS, (most, most))
