"""Clips on disk: what one record holds, and how it is read from its bytes.

Pixel coordinates are continuous with the centre of the first pixel at (0, 0), the
convention of `cv2.resize`; x grows to the right and y downwards.
"""
import functools
import threading
import zlib

import numpy as np

# Raised when the meaning of a record's fields changes; older records are prepared anew.
FORMAT = 2

# name -> (dtype, shape); None is a length that varies from clip to clip. Arrays with
# one such length or none are stored as lists of numbers, the others as compressed bytes.
ARRAYS = {
    "frame_to_original": (np.float32, (2, 3)),
    "image_size": (np.int32, (2,)),
    "boxes": (np.float32, (None, 4)),
    "depth_range": (np.float32, (2,)),
    "pose3d": (np.float32, (None, None, None, 3)),
    "pose2d": (np.float32, (None, None, None, 2)),
    "pose_score": (np.float32, (None, None, None)),
}
INTEGERS = ("label", "subject", "camera", "setup", "num_frames")
FIELDS = ("clip_id", "fps", "frames", *ARRAYS, *INTEGERS)


def features():
  """The TFDS features of one record (imports TensorFlow Datasets, not TensorFlow).

  `frames`: individually encoded images (JPEG colour or 16-bit PNG depth in mm), so
  that a reader decodes only the frames it wants; they are declared as text because
  `Sequence(Image)` needs TensorFlow. `frame_to_original` float[2,3]: affine map of a
  stored frame's pixels to the original's. `image_size` int[2]: height and width of the
  stored frame, which `boxes` and `pose2d` are measured in, stored or not; (0, 0) where
  it is unknown. `fps`: frames per second. `boxes`
  float[T,4]: x0, y0, x1, y1 around the person(s) in pixels of the stored frame, NaN
  where no person is. `depth_range` float[2]: nearest and farthest depth of the person
  in mm, 0 for colour. `pose3d` float[M,T,J,3]: metres in camera coordinates (x right,
  y up, z away). `pose2d` float[M,T,J,2]: pixels of the stored frame. `pose_score`
  float[M,T,J]: 0 marks a missing joint, whose coordinates are 0. `num_frames`: T.
  A modality that a clip does not have is of size 0.
  """
  import tensorflow_datasets as tfds

  def array(dtype, shape):
    # TFDS restores several unknown lengths only of tensors stored as bytes, and (4.9.10)
    # the shape of an empty one only if those are compressed.
    encoding = "zlib" if shape.count(None) > 1 else "none"
    return tfds.features.Tensor(shape=shape, dtype=dtype, encoding=encoding)

  return tfds.features.FeaturesDict({
      "clip_id": tfds.features.Text(),
      "fps": np.float32,
      "frames": tfds.features.Sequence(tfds.features.Text()),
      **{name: array(dtype, shape) for name, (dtype, shape) in ARRAYS.items()},
      **{name: np.int32 for name in INTEGERS},
  })


def complete(record: dict) -> dict:
  """A record with every field present, of its dtype, and consistent with the others.

  Args:
    record: fields of a record; `clip_id`, `label` and `num_frames` are required, an
      absent modality may be left out (or None). Arrays as in `features`.

  Returns:
    a new dict with all of `FIELDS`.

  Raises:
    ValueError: an unknown, missing or inconsistent field (a builder's defect),
      naming the clip and the field.
  """
  clip = record.get("clip_id", "?")
  unknown = set(record) - set(FIELDS)
  missing = {"clip_id", "label", "num_frames"} - set(record)
  if unknown or missing:
    raise ValueError(f"clip {clip}: unknown fields {sorted(unknown)}, missing {sorted(missing)}")
  empty = {"frame_to_original": np.eye(2, 3), "depth_range": np.zeros(2)}
  out = {"clip_id": str(record["clip_id"]), "fps": np.float32(record.get("fps", 0)),
         "frames": [bytes(frame) for frame in record.get("frames") or ()]}
  for name in INTEGERS:
    out[name] = np.int32(record.get(name, 0))
  for name, (dtype, shape) in ARRAYS.items():
    value = record.get(name)
    if value is None:
      value = empty.get(name, np.zeros([size or 0 for size in shape]))
    value = np.ascontiguousarray(value, dtype)
    if value.ndim != len(shape) or any(b not in (None, a) for a, b in zip(value.shape, shape)):
      raise ValueError(f"clip {clip}: {name} has shape {value.shape}, expected {shape}")
    out[name] = value
  size = out["image_size"]
  if (size < 0).any() or (size > 0).any() != (size > 0).all():
    raise ValueError(f"clip {clip}: image_size is {size.tolist()}")
  frames = int(out["num_frames"])
  if frames < 1:
    raise ValueError(f"clip {clip}: num_frames is {frames}")
  for name in ("frames", "boxes"):
    if len(out[name]) not in (0, frames):
      raise ValueError(f"clip {clip}: {len(out[name])} {name}, but num_frames is {frames}")
  poses = [out[name].shape[:3] for name in ("pose3d", "pose2d") if out[name].size]
  if poses and (set(poses) != {out["pose_score"].shape} or poses[0][1] != frames):
    raise ValueError(f"clip {clip}: poses of [M,T,J] {poses} with scores of "
                     f"{out['pose_score'].shape}, num_frames {frames}")
  return out


_EXAMPLE_LOCK = threading.Lock()


def _example_class():
  """The message class tf.train.Example; made once, whichever thread asks first.

  A cache alone would let several loader threads make one each, and freeing a descriptor pool
  while another thread parses with it crashes the process.
  """
  with _EXAMPLE_LOCK:
    return _make_example_class()


@functools.cache
def _make_example_class():
  """Builds the message class from a private descriptor pool.

  Described here because importing it from TensorFlow Datasets imports all of that,
  and a private pool does not clash with TensorFlow's own registration.
  """
  from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
  field = descriptor_pb2.FieldDescriptorProto
  file = descriptor_pb2.FileDescriptorProto(name="example.proto", package="actionjax",
                                            syntax="proto3")

  def add(message, name, number, kind, repeated=False, of=None):
    message.field.add(name=name, number=number, type=kind, type_name=of and f".actionjax.{of}",
                      label=field.LABEL_REPEATED if repeated else field.LABEL_OPTIONAL)

  for name, kind in (("BytesList", field.TYPE_BYTES), ("FloatList", field.TYPE_FLOAT),
                     ("Int64List", field.TYPE_INT64)):
    add(file.message_type.add(name=name), "value", 1, kind, repeated=True)
  feature = file.message_type.add(name="Feature")
  for number, name in enumerate(("bytes_list", "float_list", "int64_list"), 1):
    add(feature, name, number, field.TYPE_MESSAGE,
        of={1: "BytesList", 2: "FloatList", 3: "Int64List"}[number])
  table = file.message_type.add(name="Features")
  entry = table.nested_type.add(name="FeatureEntry")
  entry.options.map_entry = True
  add(entry, "key", 1, field.TYPE_STRING)
  add(entry, "value", 2, field.TYPE_MESSAGE, of="Feature")
  add(table, "feature", 1, field.TYPE_MESSAGE, repeated=True, of="Features.FeatureEntry")
  add(file.message_type.add(name="Example"), "features", 1, field.TYPE_MESSAGE, of="Features")
  pool = descriptor_pool.DescriptorPool()
  pool.Add(file)
  return message_factory.GetMessageClass(pool.FindMessageTypeByName("actionjax.Example"))


def canonical(data: bytes) -> bytes:
  """A serialized tf.train.Example with its fields in one fixed order.

  Protocol buffers write a map in an order that differs from process to process.
  """
  return _example_class().FromString(data).SerializeToString(deterministic=True)


def parse(data: bytes) -> dict:
  """One record from its serialized tf.train.Example.

  Returns:
    a dict of `FIELDS`: `frames` list[bytes], `clip_id` str, `fps` float, integers as
    int, arrays as writable numpy arrays of the shapes in `ARRAYS`.
  """
  feature = _example_class().FromString(data).features.feature
  record = {"clip_id": feature["clip_id"].bytes_list.value[0].decode(),
            "fps": feature["fps"].float_list.value[0],
            "frames": list(feature["frames"].bytes_list.value)}
  for name in INTEGERS:
    record[name] = feature[name].int64_list.value[0]
  for name, (dtype, shape) in ARRAYS.items():
    if shape.count(None) > 1:
      value = zlib.decompress(feature[f"{name}/value"].bytes_list.value[0])
      value = np.frombuffer(bytearray(value), dtype)
      record[name] = value.reshape(feature[f"{name}/shape"].int64_list.value)
    else:
      given = feature[name]
      value = np.array(given.float_list.value if np.issubdtype(dtype, np.floating) else
                       given.int64_list.value, dtype)
      record[name] = value.reshape([-1 if size is None else size for size in shape])
  return record
