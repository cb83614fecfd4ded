"""Mutations of a file's bytes that know of no format but of what formats have in common."""
import random
import re

_BYTES = (0, 1, 9, 10, 13, 32, 44, 46, 48, 57, 0x7F, 0x80, 0xFF)
# Around the limits of the integers' sizes, and numbers of elements that nobody has memory for.
_INTEGERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x100, 0x7FFF, 0x8000, 0xFFFF, 0x10000, 10**9, 0x7FFFFFFF,
             0x80000000, 0xFFFFFFFF, 10**12, 2**62, 2**63 - 1, 2**63, 2**64 - 1)
_NUMBERS = (b"0", b"-1", b"1", b"2", b"1e9", b"1e999", b"-1e999", b"nan", b"1000000000", b"1_0",
            b"99999999999999999999", b"0.0", b"-0", b"1.#IND", b"0x10", b"", b"9" * 5000)
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")


class Mutator:
  """Changes inputs at random.

  Args:
    rng: draws everything.
    tokens: what the format is made of, to be put anywhere.
    most: bytes of an input at most.
  """

  def __init__(self, rng: random.Random, tokens=(), most: int = 2**16):
    self._rng, self._tokens, self._most = rng, tuple(tokens) or (b"\0",), most
    self._changes = (
        self._bit, self._byte, self._noise, self._delete, self._repeat, self._insert,
        self._overwrite, self._splice, self._integer, self._number, self._cut, self._swap)
    self._weights = (4, 4, 2, 2, 2, 3, 3, 2, 4, 4, 0.5, 1)

  def __call__(self, data: bytes, other: bytes) -> bytes:
    """One to eight changes of an input; `other` is another to take pieces from."""
    changed = bytearray(data)
    # One change mostly: what is broken in eight places is refused for the first.
    for _ in range(self._rng.choice((1, 1, 1, 1, 2, 2, 4, 8))):
      self._rng.choices(self._changes, self._weights)[0](changed, other)
    return bytes(changed[:self._most])

  def _at(self, data) -> int:
    return self._rng.randrange(len(data) + 1)

  def _piece(self, data) -> slice:
    start = self._at(data)
    # Most lengths that matter are short; a long piece now and then.
    return slice(start, start + self._rng.choice((1, 1, 2, 4, 4, 8, 8, 16, 64, 256, len(data))))

  def _bit(self, data, other):
    if data:
      data[self._rng.randrange(len(data))] ^= 1 << self._rng.randrange(8)

  def _byte(self, data, other):
    if data:
      data[self._rng.randrange(len(data))] = self._rng.choice(_BYTES)

  def _noise(self, data, other):
    place = self._piece(data)
    data[place] = self._rng.randbytes(len(data[place]))

  def _delete(self, data, other):
    del data[self._piece(data)]

  def _repeat(self, data, other):
    at = self._at(data)
    data[at:at] = data[self._piece(data)] * self._rng.choice((1, 1, 2, 16))

  def _insert(self, data, other):
    at = self._at(data)
    data[at:at] = self._rng.choice(self._tokens)

  def _overwrite(self, data, other):
    at, token = self._at(data), self._rng.choice(self._tokens)
    data[at:at + len(token)] = token

  def _splice(self, data, other):
    data[self._piece(data)] = other[self._piece(other)]

  def _integer(self, data, other):
    size, order = self._rng.choice((1, 2, 4, 8)), self._rng.choice(("little", "big"))
    at = self._at(data)
    value = self._rng.choice(_INTEGERS) % 2**(8 * size)
    data[at:at + size] = value.to_bytes(size, order)

  def _number(self, data, other):
    """Replaces a decimal number in a text."""
    found = _NUMBER.search(data, self._at(data)) or _NUMBER.search(data)
    if found:
      data[found.start():found.end()] = self._rng.choice(_NUMBERS)

  def _cut(self, data, other):
    del data[self._at(data):]

  def _swap(self, data, other):
    a, b = self._piece(data), self._piece(data)
    data[a], data[b] = bytes(data[b]), bytes(data[a])
