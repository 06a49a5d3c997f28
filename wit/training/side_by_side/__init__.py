"""Cells that differ in weights and seed only, trained at once on one frozen base.

A forward has rows of all cells. Through the base they go together; what an adapter adds is computed
for each cell's rows with that cell's weights. So no cell sees another, and the sum of their losses
gives each adapter the gradient of its own.
"""

from wit.training.side_by_side.train import ToTrain, train_side_by_side

__all__ = ["ToTrain", "train_side_by_side"]
