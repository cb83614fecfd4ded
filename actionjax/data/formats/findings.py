"""What is wrong with raw data, collected instead of raised, so that all of it can be shown."""
import dataclasses

from actionjax.errors import RawDataError


@dataclasses.dataclass(frozen=True)
class Finding:
  """One thing wrong.

  Attributes:
    clip: its id, or the file where it is about no clip.
    field: such as "label", "keypoint" or "path".
    message: what is wrong, and what to do.
    warning: whether the data can be used all the same.
  """
  clip: str
  field: str
  message: str
  warning: bool = False

  def __str__(self):
    return f"{shown(self.clip)}: {self.field}: {shown(self.message, 1000)}"


class Findings:
  """A list to collect in."""

  def __init__(self):
    self.all: list[Finding] = []

  def add(self, clip: str, field: str, message: str) -> None:
    """Notes what has to be mended."""
    self.all.append(Finding(clip, field, message))

  def warn(self, clip: str, field: str, message: str) -> None:
    """Notes what can be lived with."""
    self.all.append(Finding(clip, field, message, warning=True))

  @property
  def errors(self) -> list[Finding]:
    """Those that have to be mended."""
    return [finding for finding in self.all if not finding.warning]

  def stop(self) -> None:
    """Raises RawDataError for the first error, if there is one, with the number of others."""
    errors = self.errors
    if errors:
      more = "" if len(errors) == 1 else (
          f" (and {len(errors) - 1} more; python -m actionjax.prepare --validate lists them all)")
      raise RawDataError(f"{errors[0]}{more}")


def shown(text, most: int = 200) -> str:
  """Text from raw data for a message: printable on any terminal, on one line, and not endless."""
  text = str(text).encode("utf-8", "backslashreplace").decode()
  text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text[:most + 1])
  return text if len(text) <= most else text[:most] + "..."
