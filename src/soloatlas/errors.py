"""The two ways a command ends badly, and nothing else."""


class InputError(ValueError):
    """The input or the request is wrong (exit code 2).

    The message is one line: what is wrong, where, and the remedy.
    """


class RunError(RuntimeError):
    """The work could not be finished for a reason outside the request (exit code 1).

    The message is one line: what failed, where, and how to go on.
    """
