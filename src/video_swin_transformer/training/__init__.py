"""Training by a recipe: one process or many nodes, exact to resume, a model folder at the end.

config.py        what a training is, as checked data
recipe_files.py  YAML, shipped recipes, key=value
data.py         which clips to learn from, to watch and to test
generated.py          clips that a program makes instead of reading them
network.py       the network and the weights it begins with
param_groups.py        which parameters learn slower or do not decay
schedule.py      the learning rate of each step
transforms.py       crops, flips, erasing, mixing: what is drawn
randaugment.py   the 18 operations of RandAugment
batches.py       pixels and labels -> input and target
dataloader.py          which clip comes when, and how it is read
train_step.py       one step of the optimizer
trainer.py          a run: steps, epochs, interruptions
validation.py      accuracy on clips that are not learned from
checkpoints.py   the state of a run on disk
log.py, console.py what is written down, what is shown
distributed.py       processes, devices, signals
memory.py        how many clips fit at once
profiling.py      one step, measured before the long run
api.py       from a recipe to a finished model
"""

from .api import Result, train
from .config import Recipe
from .distributed import DEVICES
from .generated import ClipSource
from .profiling import MicroBatchProfile, Plan, profile_training
from .recipe_files import find_recipe, load_recipe, shipped_recipes
from .trainer import Interrupted

__all__ = [
    "DEVICES",
    "ClipSource",
    "Interrupted",
    "MicroBatchProfile",
    "Plan",
    "Recipe",
    "Result",
    "find_recipe",
    "load_recipe",
    "profile_training",
    "shipped_recipes",
    "train",
]
