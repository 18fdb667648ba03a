"""The stages of a strategy, and what each of them does."""

SEES_VALIDATION = "†"
"""Ends the label of a strategy that looks at validation labels while it trains."""

INSTANCE, LOSS, GRADIENT = "instance", "loss", "gradient"
STAGES = {
    INSTANCE: "weighs the instances inside each task",
    LOSS: "weighs the tasks by their losses",
    GRADIENT: "weighs the tasks by their gradients",
}
