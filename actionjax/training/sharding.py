"""Data parallelism: a mesh with one axis, replicated state, batches split by rows."""
import jax
import numpy as np
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from actionjax.errors import UserError


def make_mesh() -> Mesh:
  """All devices of all processes along the axis "data"."""
  return Mesh(np.array(jax.devices()), ("data",))


def replicated(mesh: Mesh) -> NamedSharding:
  """The same array on every device."""
  return NamedSharding(mesh, PartitionSpec())


def batched(mesh: Mesh) -> NamedSharding:
  """The leading axis split over the devices."""
  return NamedSharding(mesh, PartitionSpec("data"))


def check_batch_size(batch_size: int, mesh: Mesh, path: str) -> None:
  """Raises UserError where the global batch does not divide over the devices."""
  if batch_size < 1 or batch_size % mesh.size:
    below = max(mesh.size, batch_size // mesh.size * mesh.size)
    raise UserError(f"{path}={batch_size} does not divide over {mesh.size} devices; "
                    f"take a multiple of {mesh.size}, such as {below}")


def to_devices(batch, mesh: Mesh):
  """This process' rows, NumPy, as global arrays split over all devices."""
  return _place(batch, batched(mesh))


def to_every_device(tree, mesh: Mesh):
  """Arrays that are the same on every process, NumPy, as global arrays, whole on every device."""
  return _place(tree, replicated(mesh))


def _place(tree, sharding: NamedSharding):
  if jax.process_count() == 1:
    return jax.device_put(tree, sharding)
  # A transfer guard takes only `device_put` for a transfer that is asked for.
  with jax.transfer_guard_host_to_device("allow"):
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(sharding, x), tree)


def to_host(tree):
  """Global arrays split by rows, as whole NumPy arrays on every process."""
  if jax.process_count() == 1:
    return jax.device_get(tree)
  from jax.experimental import multihost_utils
  return multihost_utils.process_allgather(tree, tiled=True)
