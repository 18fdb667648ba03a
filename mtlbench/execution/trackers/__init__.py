"""Trackers that people already use: one run there for every run here.

The store stays the one place of results; a tracker only shows them. `tracking` feeds trackers from
the events of a study; each other module is one tracker, and imports its package.
"""

NAMES = ("tensorboard", "wandb", "mlflow")
"""Each is an extra of this package, too."""
