"""Networks to train: neurons on a chip's arithmetic, deployable students, teachers."""
