"""Packaging of actionjax."""
import pathlib

from setuptools import find_packages, setup

HERE = pathlib.Path(__file__).parent

setup(
    name="actionjax",
    version="0.1.0",
    description="Human action recognition from video and pose in JAX/Flax",
    long_description=(HERE / "README.md").read_text(),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11",
    # The configs travel inside the wheel, so that an installed actionjax finds them by name.
    packages=find_packages(include=["actionjax", "actionjax.*"]) + ["actionjax.configs"],
    package_dir={"actionjax.configs": "configs"},
    package_data={"actionjax.ops": ["lowerings.json"]},
    install_requires=[
        "jax>=0.10",
        "flax>=0.12",
        "optax>=0.2.5",
        "orbax-checkpoint>=0.11.30",
        "grain>=0.2.18",
        "tensorflow-datasets>=4.9.9",
        "numpy>=2.0",
        "chex>=0.1.90",
        "absl-py>=2.1",
        "ml_collections>=1.0",
        "av>=18",
        "opencv-python-headless>=4.10",
        "scipy>=1.14",
        "matplotlib>=3.9",
        "tqdm>=4.66",
        "tensorboardX>=2.6",
    ],
    extras_require={
        "test": ["pytest>=8", "pytest-xdist>=3.5", "hypothesis>=6", "nbclient>=0.10",
                 "nbformat>=5.10", "ipykernel>=6", "setuptools>=68", "wheel>=0.43"],
        "analysis": ["scikit-learn>=1.5", "scikit-image>=0.24"],
        "torch": ["torch>=2.4"],
        "pose": ["onnxruntime>=1.19"],
        "beam": ["apache-beam>=2.77"],
        "typing": ["jaxtyping>=0.3", "beartype>=0.20"],
    },
)
