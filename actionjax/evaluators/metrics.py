"""Classification metrics from class probabilities. NumPy, on the host."""
import numpy as np


def confusion_matrix(labels, predictions, num_classes: int) -> np.ndarray:
  """Counts int[N,N]; row is the true class, column the predicted one."""
  flat = np.asarray(labels) * num_classes + np.asarray(predictions)
  return np.bincount(flat, minlength=num_classes**2).reshape(num_classes, num_classes)


def top_k(probabilities: np.ndarray, labels: np.ndarray, k: int) -> float:
  """Share of clips whose label is among the k most probable classes, in [0, 1].

  Ties are broken by class number, so that equal probabilities count no clip by luck.
  """
  if not len(labels):
    return float("nan")
  order = np.argsort(-probabilities, axis=1, kind="stable")[:, :k]
  return float((order == np.asarray(labels)[:, None]).any(1).mean())


def mean_class_accuracy(confusion: np.ndarray) -> float:
  """Mean over the classes that occur of the share of their clips recognised, in [0, 1]."""
  counts = confusion.sum(1)
  occurs = counts > 0
  if not occurs.any():
    return float("nan")
  return float((np.diag(confusion)[occurs] / counts[occurs]).mean())


def summarise(probabilities: np.ndarray, labels: np.ndarray) -> dict:
  """`top1`, `top5`, `mean_class_accuracy` in [0, 1] and the number of `clips`.

  Args:
    probabilities: float[n,N].
    labels: int[n].
  """
  classes = probabilities.shape[1]
  confusion = confusion_matrix(labels, top_1(probabilities), classes)
  return {"top1": top_k(probabilities, labels, 1),
          "top5": top_k(probabilities, labels, min(5, classes)),
          "mean_class_accuracy": mean_class_accuracy(confusion), "clips": len(labels)}


def top_1(probabilities: np.ndarray) -> np.ndarray:
  """Most probable class int[n], the first among equals."""
  return np.argmax(probabilities, axis=1)


def cross_entropy(probabilities: np.ndarray, labels: np.ndarray) -> float:
  """Mean negative log-probability of the labels; probabilities are floored at 1e-12."""
  if not len(labels):
    return float("nan")
  chosen = probabilities[np.arange(len(labels)), labels]
  return float(-np.log(np.maximum(chosen, 1e-12)).mean())
