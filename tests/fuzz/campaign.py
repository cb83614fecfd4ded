"""One parser's campaign: mutate, read, keep what is new; in a process that may crash."""
import collections
import contextlib
import dataclasses
import hashlib
import json
import multiprocessing
import os
import pathlib
import random
import re
import signal
import sys
import tempfile
import time
import traceback
import warnings

from actionjax.errors import UserError
from tests.fuzz import mutations, parsers, watch

# A fresh process now and then, so that what an input leaves behind is not taken for the next's.
_INPUTS_A_PROCESS = 10_000
# Without a sign of life for this long (s, of the clock) a process hangs where no signal reaches.
_PATIENCE = 120.0
_MOST_CRASHES = 20
_MOST_MESSAGES = 300
_CURRENT = "current.bin"


@dataclasses.dataclass
class Tally:
  """What came of a campaign.

  Attributes:
    inputs: read. valid: of them gave a result. refused: documented error -> inputs.
    edges: steps between lines of the parser's modules that any input took.
    findings: what may not happen -> (inputs, file with one of them).
  """
  inputs: int = 0
  valid: int = 0
  refused: collections.Counter = dataclasses.field(default_factory=collections.Counter)
  edges: int = 0
  findings: dict[str, tuple[int, str]] = dataclasses.field(default_factory=dict)

  def add(self, outcome: str, name: str) -> None:
    """Counts one input's outcome, of kind "valid", "refused" or "finding"."""
    self.inputs += 1
    if outcome == "valid":
      self.valid += 1
    elif outcome == "refused":
      self.refused[name] += 1
    else:
      self.find(name)

  def find(self, name: str, file: str = "") -> None:
    """Counts a finding."""
    count, first = self.findings.get(name, (0, file))
    self.findings[name] = (count + 1, first or file)

  def __str__(self):
    refused = ", ".join(f"{name} {count}" for name, count in self.refused.most_common())
    lines = [f"{self.inputs} inputs: {self.valid} valid, refused: {refused or 'none'}; "
             f"{self.edges} edges; {len(self.findings)} findings"]
    lines += [f"  {count} x {name} ({file})" for name, (count, file) in self.findings.items()]
    return "\n".join(lines)


class _Campaign:
  """The inputs of one process."""

  def __init__(self, parser: parsers.Parser, seed: int, keep: pathlib.Path, folder: pathlib.Path):
    self._parser, self._keep = parser, keep
    self._rng = random.Random(seed)
    self._path = folder / parser.file
    parser.set_up(folder)
    self._watch = watch.Watch(parser.modules, folder, parser.seconds)
    self._seen, self._messages = set(), set()
    self._corpus = {True: [], False: []}  # by whether they are valid
    self.first = []  # findings among the inputs to begin with
    self._current = os.open(keep / _CURRENT, os.O_RDWR | os.O_CREAT)
    seeds = parser.seeds()
    self._mutate = mutations.Mutator(self._rng, parser.tokens,
                                     max(2**14, 2 * max(map(len, seeds))))
    for data in seeds:  # imports what is imported on first use, which is no misdeed
      self._path.write_bytes(data)
      with contextlib.suppress(Exception):
        parser.read(self._path)
      self._path.unlink()
    for data in (*seeds, *(path.read_bytes() for path in sorted(keep.glob("corpus/*")))):
      outcome = self.read(data)
      self._corpus[outcome[0] == "valid"].append(data)
      if outcome[0] == "finding":
        self.first.append(outcome)

  @property
  def edges(self) -> int:
    return len(self._seen)

  def next(self) -> tuple[str, str, str]:
    """Reads a new input; see `read`."""
    data = self._mutate(self._pick(), self._pick())
    if self._parser.repair is not None and self._rng.random() < 0.7:
      data = self._parser.repair(data)
    before = len(self._seen)
    outcome = self.read(data)
    if len(self._seen) > before:
      self._corpus[outcome[0] == "valid"].append(data)
      (self._keep / "corpus").mkdir(exist_ok=True)
      (self._keep / "corpus" / f"{time.time_ns()}").write_bytes(data)
    return outcome

  def _pick(self) -> bytes:
    """An input to change; most of what comes from a broken one is broken, too."""
    corpus = self._corpus[self._rng.random() < 0.7] or self._corpus[True] or self._corpus[False]
    # The later ones went deeper.
    return corpus[int(len(corpus) * self._rng.random() ** 0.5)]

  def read(self, data: bytes) -> tuple[str, str, str]:
    """Reads one input: ("valid", "refused" or "finding", its name, its file)."""
    os.pwrite(self._current, len(data).to_bytes(8, "little") + data, 0)
    self._path.unlink(missing_ok=True)  # the old one may still be mapped
    self._path.write_bytes(data)
    found = ("valid", "", "")
    try:
      with self._watch():
        self._parser.read(self._path)
    except UserError as error:
      found = ("refused", type(error).__name__, "")
      # No edge of our own tells one refusal of a library from another, but its words do.
      words = re.sub(r"[0-9]+|b?'[^']*'", "", str(error).replace(str(self._path), ""))[:60]
      if len(self._messages) < _MOST_MESSAGES:
        self._messages.add(words)
        self._watch.edges.add(words)
      if not str(error).isprintable():
        name = f"an {type(error).__name__} whose message does not print, {_place(error)}"
        found = self._found(data, name, repr(str(error)))
    except (Exception, watch.TooSlow) as error:
      text = "".join(traceback.format_exception(error))
      found = self._found(data, f"{type(error).__name__} {_place(error)}", text)
    if self._watch.misdeeds:
      found = self._found(data, self._watch.misdeeds[0], "\n".join(self._watch.misdeeds))
    self._seen |= self._watch.edges
    return found

  def _found(self, data: bytes, name: str, text: str) -> tuple[str, str, str]:
    # Addresses and sizes make one finding look like many.
    name = re.sub(r"0x[0-9a-f]+", "0x", name)
    file = _save(self._keep, name, data, text)
    return "finding", name, file


def _place(error: BaseException) -> str:
  frame = [frame for frame in traceback.extract_tb(error.__traceback__)
           if frame.filename != watch.__file__][-1]
  return f"at {pathlib.Path(frame.filename).name}:{frame.lineno} {frame.name}"


def _save(keep: pathlib.Path, name: str, data: bytes, text: str) -> str:
  """Keeps the first input of a finding; returns its file."""
  folder = keep / "findings"
  folder.mkdir(exist_ok=True)
  file = folder / f"{hashlib.sha256(name.encode()).hexdigest()[:12]}.bin"
  if not file.exists():
    file.write_bytes(data)
    file.with_suffix(".txt").write_text(f"{name}\n\n{text}\n", errors="backslashreplace")
  return str(file)


def _work(make, inputs: int, seed: int, keep: str, pipe) -> None:
  """A process: reads so many inputs and tells of each some tens of them."""
  warnings.simplefilter("ignore")
  # Image and video libraries complain of every broken file.
  with open(pathlib.Path(keep) / "stderr.txt", "wb") as log:
    os.dup2(log.fileno(), sys.stderr.fileno())
  with tempfile.TemporaryDirectory(dir=keep) as folder:
    inner, tempfile.tempdir = pathlib.Path(folder) / "files", f"{folder}/temporary"
    inner.mkdir()
    os.mkdir(tempfile.tempdir)
    parser = make()
    campaign = _Campaign(parser, seed, pathlib.Path(keep), inner)
    watch.bound_memory(parser.megabytes * parsers.MEGABYTE)
    outcomes, last = campaign.first, time.monotonic()
    for _ in range(inputs):
      outcomes.append(campaign.next())
      if len(outcomes) == 100 or time.monotonic() - last > 5:
        pipe.send((outcomes, campaign.edges))
        outcomes, last = [], time.monotonic()
    pipe.send((outcomes, campaign.edges))


def run(make, inputs: int, keep: pathlib.Path, seed: int = 0,
        report=lambda tally: None) -> Tally:
  """Has a parser read mutated inputs.

  Args:
    make: function () -> the `parsers.Parser`, importable by name in another process.
    inputs: how many.
    keep: folder for `corpus/` (inputs that took a new way, from where a later campaign goes on),
      `findings/` and `tally.json`.
    seed: of all that is drawn; campaigns of one seed, from no corpus, read the same inputs.
    report: called with the tally now and then.
  """
  keep.mkdir(parents=True, exist_ok=True)
  tally, crashes, last_report = Tally(), 0, time.monotonic()
  while tally.inputs < inputs and crashes < _MOST_CRASHES:
    before = tally.inputs
    count = min(inputs - tally.inputs, _INPUTS_A_PROCESS)
    for outcomes, edges in _outcomes(make, count, seed + before + crashes, keep, tally):
      tally.edges = edges
      for kind, name, file in outcomes:
        tally.add(kind, name)
        if kind == "finding" and file:
          tally.findings[name] = (tally.findings[name][0], file)
      if time.monotonic() - last_report > 60:
        last_report = time.monotonic()
        report(tally)
    crashes += tally.inputs - before < count
    (keep / "tally.json").write_text(json.dumps(vars(tally), indent=1))
  return tally


def _outcomes(make, count: int, seed: int, keep: pathlib.Path, tally: Tally):
  """Yields what a process tells; a crash or a hang becomes a finding."""
  # Forked from a process that has imported everything: that takes longer than a short campaign.
  context = multiprocessing.get_context("forkserver")
  context.set_forkserver_preload(["tests.fuzz.campaign"])
  ours, theirs = context.Pipe(duplex=False)
  process = context.Process(target=_work, args=(make, count, seed, str(keep), theirs),
                            daemon=True)
  process.start()
  theirs.close()
  try:
    while ours.poll(_PATIENCE):
      try:
        yield ours.recv()
      except EOFError:
        break
    else:
      process.kill()
      process.join()
      _crash(tally, keep, "hangs where no signal reaches it")
      return
    process.join()
    if process.exitcode:
      name = (signal.Signals(-process.exitcode).name if process.exitcode < 0 else
              f"status {process.exitcode}")
      _crash(tally, keep, f"ends the process: {name}")
  finally:
    if process.is_alive():
      process.kill()
    process.join()
    ours.close()


def _crash(tally: Tally, keep: pathlib.Path, what: str) -> None:
  current = keep / _CURRENT
  data = current.read_bytes() if current.exists() else b""
  data = data[8:8 + int.from_bytes(data[:8], "little")]
  digest = hashlib.sha256(data).hexdigest()[:8]
  name = f"{what}, input {digest}"
  tally.inputs += 1
  tally.find(name, _save(keep, name, data, what))
