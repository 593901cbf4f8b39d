"""What a command ends with when it cannot do its work: a message for a person and an exit code.

The exit codes are part of the interface: 0 done or drained, 2 usage, 3 configuration or doctor, 4 halted, 5 unreachable
at start, 70 bug. 2 comes from the command line parser, 70 from any exception that is not one of these.
"""

from typing import ClassVar


class LedgerlineError(Exception):
    """A failure that the command line prints as one message, without a traceback.

    The message says what, where, expected, got, and what to do next.
    """

    exit_code: ClassVar[int]


class ConfigurationError(LedgerlineError):
    """A setting, or something this machine lacks, keeps the command from starting."""

    exit_code = 3


class HaltedError(LedgerlineError):
    """A partition stopped because an invariant is broken; the message names the way back."""

    exit_code = 4


class UnreachableError(LedgerlineError):
    """A server does not answer, or could not be started or downloaded."""

    exit_code = 5
