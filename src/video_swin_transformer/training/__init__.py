"""Training by a recipe: one process or many nodes, exact to resume, a model folder at the end.

recipe.py        what a training is, as checked data
recipe_files.py  YAML, shipped recipes, key=value
clips.py         which clips to learn from, to watch and to test
made.py          clips that a program makes instead of reading them
network.py       the network and the weights it begins with
groups.py        which parameters learn slower or do not decay
schedule.py      the learning rate of each step
augment.py       crops, flips, erasing, mixing: what is drawn
randaugment.py   the 18 operations of RandAugment
batches.py       pixels and labels -> input and target
feed.py          which clip comes when, and how it is read
learner.py       one step of the optimiser
loop.py          a run: steps, epochs, interruptions
watching.py      accuracy on clips that are not learned from
checkpoints.py   the state of a run on disk
log.py, table.py what is written down, what is shown
machine.py       processes, devices, signals
memory.py        how many clips fit at once
planning.py      one step, measured before the long run
session.py       from a recipe to a finished model
"""

from .loop import Interrupted
from .machine import DEVICES
from .made import ClipMaker
from .planning import MicroPlan, Plan, plan_training
from .recipe import Recipe
from .recipe_files import find_recipe, load_recipe, shipped_recipes
from .session import Result, train

__all__ = [
    "DEVICES",
    "ClipMaker",
    "Interrupted",
    "MicroPlan",
    "Plan",
    "Recipe",
    "Result",
    "find_recipe",
    "load_recipe",
    "plan_training",
    "shipped_recipes",
    "train",
]
