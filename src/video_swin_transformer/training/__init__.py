"""Training with a recipe: one process or many nodes, bit-exact resume on CPU, a model folder.

In the order of a run:

api.py           train(): from a recipe to a finished model folder
config.py        the recipe as pydantic models
recipe_files.py  YAML, shipped recipes, key=value overrides
distributed.py   processes, devices, memory, signals
data.py          training, validation and test clips
generated.py     training clips that a program generates
setup.py         the network and its initial weights
dataloader.py    epoch order, micro batches, workers
transforms.py    augmentation of clips and batches
randaugment.py   the 18 operations of RandAugment
trainer.py       Trainer.fit and train_step
losses.py        targets, losses and their weights
optim.py         parameter groups, learning-rate schedule, moving average
validation.py    metrics on validation and test clips
io.py            checkpoints, CSV tables, TensorBoard
console.py       progress on the terminal
profiling.py     micro batch size, and the measurement of a dry run
"""

from .api import TrainResult, train
from .config import Recipe
from .console import Progress, ProgressDisplay
from .generated import ClipSource
from .profiling import MicroBatchProfile, TrainingProfile, profile_training
from .recipe_files import find_recipe, load_recipe, recipe_keys, shipped_recipes
from .trainer import TrainingInterrupted
from .validation import ValidationResult

__all__ = [
    "ClipSource",
    "MicroBatchProfile",
    "Progress",
    "ProgressDisplay",
    "Recipe",
    "TrainResult",
    "TrainingInterrupted",
    "TrainingProfile",
    "ValidationResult",
    "find_recipe",
    "load_recipe",
    "profile_training",
    "recipe_keys",
    "shipped_recipes",
    "train",
]
