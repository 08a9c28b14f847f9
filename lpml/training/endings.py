"""How a training ends before its end."""


class RunFailed(RuntimeError):
    """A training that cannot go on; the message is one sentence with the step and the cause."""


class Stopped(Exception):
    """A training that saved its state because it was asked to stop."""

    def __init__(self, step: int):
        super().__init__(f"stopped at step {step}; the same command resumes there")
        self.step = step
