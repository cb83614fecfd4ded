"""Reads a user's whole dataset without preparing it: every fault, and what is in it."""
import dataclasses
import functools

from actionjax import workers
from actionjax.data import own
from actionjax.data.formats.findings import Finding, Findings
from actionjax.errors import UserError


@dataclasses.dataclass(frozen=True)
class Validated:
  """What validation found.

  Attributes:
    findings: faults and warnings, all of them.
    survey: of the clips; None where the dataset as a whole cannot be listed.
    examined: clip id -> statistics, of the clips that can be read.
  """
  findings: list[Finding]
  survey: own.Survey | None
  examined: dict[str, own.Examined]

  @property
  def errors(self) -> list[Finding]:
    """The findings that have to be mended."""
    return [finding for finding in self.findings if not finding.warning]


def validate(kind: str, raw_dir: str, options: dict, processes: int | None = None,
             advance=lambda: None) -> Validated:
  """Reads every clip of raw data whole, and stops at nothing.

  Args:
    kind: one of `own.KINDS`.
    raw_dir: folder or file of the raw data.
    options: of the kind; the others have their defaults.
    processes: that read; None for a process a core.
    advance: called after each clip.

  Raises:
    UserError: an unknown kind.
  """
  if kind not in own.KINDS:
    raise UserError(f"--validate reads {', '.join(own.KINDS)}, not {kind!r}: published datasets "
                    "are checked while they are prepared")
  module = own.module(kind)
  options = {**module.OPTIONS, **options}
  findings = Findings()
  try:
    survey = module.survey(raw_dir, findings, **options)
  except UserError as error:
    findings.add(str(raw_dir), "dataset", str(error))
    return Validated(findings.all, None, {})
  count = workers.default_workers() if processes is None else processes
  examined = {}
  for clip, found, told in workers.run(functools.partial(_examine, kind, options), survey.clips,
                                       count):
    findings.all.extend(found)
    if told is not None:
      examined[clip] = told
    advance()
  # Workers finish in any order.
  place = {clip.clip_id: number for number, clip in enumerate(survey.clips)}
  ordered = sorted(findings.all, key=lambda finding: place.get(finding.clip, -1))
  return Validated(ordered, survey, examined)


def _examine(kind: str, options: dict, raw) -> tuple[str, list[Finding], own.Examined | None]:
  findings = Findings()
  try:
    told = own.module(kind).examine(raw, findings, **options)
  except UserError as error:
    findings.add(raw.clip_id, "clip", str(error))
    told = None
  return raw.clip_id, findings.all, told
