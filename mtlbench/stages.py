"""The stages of a strategy, and what each of them does."""

INSTANCE, LOSS, GRADIENT = "instance", "loss", "gradient"
STAGES = {
    INSTANCE: "weighs the instances inside each task",
    LOSS: "weighs the tasks by their losses",
    GRADIENT: "weighs the tasks by their gradients",
}
