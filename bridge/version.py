"""The version of this distribution, in the one place that the build, ``--version`` and ``/health`` read."""

__version__ = "0.1.0"
