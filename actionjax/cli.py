"""What all commands share: a user's mistake is one line on stderr, never a traceback."""
import errno
import os
import sys

from absl import app, flags

from actionjax import renamed
from actionjax.errors import UserError


def run(main, parser=None) -> None:
  """Runs a command under `absl.app`; ends the process.

  A UserError, or a full disk, prints `error: ...` and exits with status 1; Ctrl-C exits
  with 130. Everything else is a defect and keeps its traceback.

  Args:
    main: called without arguments, once the flags are parsed.
    parser: of the flags, `parser(argv) -> remaining argv` (default: absl's).
  """
  _ask_for_huge_pages()

  def parse(argv):
    try:
      for argument in argv[1:]:
        name = argument.lstrip("-").partition("=")[0]
        if argument.startswith("-") and name in renamed.FLAGS and name not in flags.FLAGS:
          raise UserError(f"--{name} is now --{renamed.FLAGS[name]}")
      return (parser or app.parse_flags_with_usage)(argv)
    except UserError as error:
      _fail(" ".join(str(error).split()))

  def guarded(argv):
    try:
      if len(argv) > 1:
        raise UserError(f"unexpected argument {argv[1]!r}; options start with --")
      main()
    except UserError as error:
      _fail(" ".join(str(error).split()))
    except BrokenPipeError:  # as in `... | head`: nobody reads on
      os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
      sys.exit(1)
    except Exception as error:
      if not _is_disk_full(error):
        raise
      where = f" at {error.filename}" if getattr(error, "filename", None) else ""
      _fail(f"no space left on the disk{where}; free some and run the same command again: it "
            "goes on from what was saved", at_once=True)
    except KeyboardInterrupt:
      _fail("interrupted; the same command goes on where it stopped", 130)

  app.run(guarded, flags_parser=parse)


def _ask_for_huge_pages() -> None:
  """On Linux, starts this command over with an allocator that asks for huge pages.

  XLA's CPU backend takes and gives back large buffers at every step; with 4 KiB pages a fifth of
  the time goes into faulting them in again. The C library reads this setting only when a process
  starts. A user's own GLIBC_TUNABLES stands, and nothing but `python -m actionjax.NAME` is
  started over.
  """
  spec = getattr(sys.modules["__main__"], "__spec__", None)
  if (sys.platform != "linux" or "GLIBC_TUNABLES" in os.environ or spec is None
      or not spec.name.startswith("actionjax.")):
    return
  os.environ["GLIBC_TUNABLES"] = "glibc.malloc.hugetlb=1"
  os.execv(sys.executable, sys.orig_argv)


def _fail(message: str, status: int = 1, *, at_once: bool = False) -> None:
  sys.stdout.flush()
  print(f"error: {message}", file=sys.stderr, flush=True)
  if at_once:
    # Writers that failed in the background would each tell their story again at exit.
    os._exit(status)
  sys.exit(status)


def _is_disk_full(error: BaseException | None) -> bool:
  """Whether an error, or one that it came from, says that a disk is full.

  TensorStore, below Orbax, raises ValueErrors whose text holds the system's error number.
  """
  while error is not None:
    if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
      return True
    if any(f"os_error_code='{number}'" in str(error) for number in (errno.ENOSPC, errno.EDQUOT)):
      return True
    error = error.__cause__ or error.__context__
  return False


def quiet_libraries() -> None:
  """Keeps other libraries' chatter out of a command's output.

  Orbax logs with tracebacks what it raises as well.
  """
  os.environ.setdefault("OPENCV_LOG_LEVEL", "ERROR")
  from absl import logging
  logging.set_verbosity(logging.FATAL)
